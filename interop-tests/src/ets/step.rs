//! The steps that cases are made of, and how they are told.

use core::fmt;

use lwm2m_server::WriteMode;

use super::case::{Asked, Expected, Is, Links, Literal, Values};

/// One step. In a path, `x` stands for the instance of this server in `/1`, or for the first resource instance there is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The device sends a Register that is complete and correct, and is accepted.
    Registers,
    /// The object list of the last Register names the version of an object.
    Lists {
        /// The object.
        object: u16,
        /// Its version.
        version: &'static str,
    },
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
    /// The server reads until the resource holds this.
    Becomes {
        /// The resource.
        path: &'static str,
        /// What it comes to hold.
        is: Is,
        /// Within so many seconds.
        seconds: u64,
    },
    /// The resource never held this, as far as the device told since the case began.
    NeverShows {
        /// The resource.
        path: &'static str,
        /// What it may not have held.
        is: Is,
    },
    /// The server reads several places at once.
    ReadComposite {
        /// Which.
        paths: &'static [&'static str],
        /// What must come back, with whole paths; anything else may.
        has: Expected,
        /// At or below what nothing may come back.
        lacks: &'static [&'static str],
    },
    /// The device must hold this, else the case is not applicable: an object in its list, or a resource or instance that can be
    /// read.
    Needs {
        /// The object, instance or resource.
        path: &'static str,
    },
    /// The resource must hold this, else the case is not applicable.
    NeedsValue {
        /// The resource.
        path: &'static str,
        /// What it holds.
        is: Is,
        /// Why the case says nothing about a device where it does not.
        reason: &'static str,
    },
    /// An object without which the case is not applicable; its instance is created where it is missing.
    Ensure {
        /// The object.
        object: u16,
        /// The instance.
        instance: u16,
        /// What a created one holds.
        values: Values,
    },
    /// Notification attributes of the server's account, as far as the device has them, are set to 0, so that they stay out of the
    /// times that are judged.
    Calm,
    /// The server writes.
    Write {
        /// The instance or resource.
        path: &'static str,
        /// Replace or partial update.
        mode: WriteMode,
        /// Values at paths relative to it.
        values: Values,
        /// The format; `None` is the server's choice.
        format: Option<u16>,
    },
    /// The server writes what the device may refuse.
    Offer {
        /// The resource.
        path: &'static str,
        /// Values at paths relative to it.
        values: Values,
    },
    /// The server writes several places at once.
    WriteComposite {
        /// Values at whole paths.
        values: Values,
    },
    /// The server writes back what the case's first Read showed: of an instance these resources, or a resource.
    Restore {
        /// The instance or resource.
        path: &'static str,
        /// Which of the instance's resources.
        resources: &'static [u16],
        /// Replace or partial update.
        mode: WriteMode,
    },
    /// The server executes a resource.
    Execute {
        /// The resource.
        path: &'static str,
        /// Whether the case is not applicable to a device without it.
        is_optional: bool,
    },
    /// The server creates an instance.
    Create {
        /// The object.
        object: u16,
        /// The instance.
        instance: u16,
        /// What it holds, at paths relative to it.
        values: Values,
    },
    /// The server deletes an instance.
    Delete {
        /// The instance.
        path: &'static str,
    },
    /// The server deletes every instance of an object that its Discover shows.
    DeleteAll {
        /// The object.
        object: u16,
    },
    /// The device refuses a request with one of these codes.
    Refuses {
        /// The request.
        asked: Asked,
        /// The codes.
        codes: &'static [(u8, u8)],
    },
    /// The server discovers.
    Discover {
        /// Where.
        path: &'static str,
        /// Links that must be there.
        has: Links,
        /// Targets that may not.
        lacks: &'static [&'static str],
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
    /// The device sends an Update.
    Updates,
    /// The device sends an Update without parameters.
    UpdatesBare,
    /// The device sends an Update without parameters, or its registration ends after its lifetime.
    UpdatesBareOrExpires {
        /// The lifetime in seconds.
        lifetime: u32,
    },
    /// The device sends an Update whose object list has this instance.
    UpdatesObjects {
        /// The instance.
        path: &'static str,
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
    /// The server knows that the device is in queue mode.
    IsQueued,
    /// The device falls asleep; a Read that is asked then reaches it after its next Update, and nothing before.
    SleepsAndIsAsked {
        /// What is read.
        path: &'static str,
    },
    /// The server observes.
    Observe {
        /// What.
        path: &'static str,
    },
    /// The server observes several places at once; the observation is known as `/`.
    ObserveComposite {
        /// Which.
        paths: &'static [&'static str],
        /// What the answer must have, with whole paths.
        has: Expected,
        /// At or below what it may have nothing.
        lacks: &'static [&'static str],
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
    /// The device sends a notification with these values.
    NotifiesOf {
        /// What is observed.
        path: &'static str,
        /// What it must have, with whole paths.
        has: Expected,
        /// At or below what it may have nothing.
        lacks: &'static [&'static str],
        /// Within so many seconds; those before it that have other values do not count.
        seconds: u64,
    },
    /// The server answers the next notification with a Reset.
    Reset {
        /// What is observed.
        path: &'static str,
        /// Seconds after which the next notification is there at the latest.
        pmax: u64,
    },
    /// The server ends an observation by asking with Observe 1.
    Cancel {
        /// What is observed.
        path: &'static str,
    },
    /// No notification comes.
    StaysSilent {
        /// What was observed.
        path: &'static str,
        /// For so many seconds after the end of the observation.
        seconds: u64,
    },
    /// The server lets the device report by itself, where it has Mute Send.
    Unmute,
    /// The device reports by itself (Send).
    Reports {
        /// What is among the values, with whole paths.
        has: Expected,
    },
    /// The device reports nothing by itself.
    ReportsNothing {
        /// For so many seconds.
        seconds: u64,
    },
    /// The device sends a Bootstrap-Request, which is accepted.
    AsksForBootstrap {
        /// Seconds that what it tries before may take.
        after: u64,
    },
    /// The device accepts a Bootstrap-Write at or below this path.
    TakesWrite {
        /// The path.
        path: &'static str,
    },
    /// The device accepts a Bootstrap-Delete.
    TakesDelete {
        /// The path.
        path: &'static str,
    },
    /// The device answers a Bootstrap-Read.
    ShowsInBootstrap {
        /// What is read.
        path: &'static str,
        /// What must come back, with whole paths.
        has: Expected,
        /// At or below what nothing may come back.
        lacks: &'static [&'static str],
    },
    /// The device shows the accounts it has now in a Bootstrap-Discover.
    ShowsAccounts,
    /// The device shows the bootstrap account in a Bootstrap-Discover, and no account of a server.
    ShowsNoAccount,
    /// The device accepts Bootstrap-Finish.
    FinishesBootstrap,
    /// The device answers Bootstrap-Finish with 4.06.
    RefusesFinish,
    /// No Bootstrap-Request came so far.
    AskedForNoBootstrap,
    /// Everything since the case began came over DTLS.
    CameSecured,
    /// Everything since the case began, in both directions, was protected by OSCORE.
    CameProtected,
    /// The device breaks the handshake with the server off, and sends no message.
    RefusesServer,
    /// The step with the second server of the case.
    Second(&'static Step),
    /// The step several times over.
    Times(u16, &'static Step),
}

impl Step {
    /// The seconds that it asks for, about.
    pub(crate) fn seconds(&self) -> u64 {
        match *self {
            Self::UpdatesBareOrExpires { lifetime } => u64::from(lifetime),
            Self::AsksForBootstrap { after: seconds }
            | Self::StaysRegistered { seconds }
            | Self::StaysSilent { seconds, .. }
            | Self::NotifiesOf { seconds, .. }
            | Self::ReportsNothing { seconds } => seconds,
            Self::Notifies { times, pmax, .. } => {
                pmax.saturating_mul(u64::try_from(times).unwrap_or(u64::MAX))
            }
            Self::SleepsAndIsAsked { .. } => 30,
            Self::Becomes { .. } => 2,
            Self::Times(times, step) => step.seconds().saturating_mul(u64::from(times)),
            _ => 0,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registers => f.write_str("the client registers"),
            Self::Read { path, format: None, .. } => write!(f, "read {path}"),
            Self::Read { path, format: Some(format), .. } if *format == u16::MAX => {
                write!(f, "read {path} without naming a format")
            }
            Self::Read { path, format: Some(format), .. } => write!(f, "read {path} in format {format}"),
            Self::Becomes { path, is, .. } => write!(f, "read {path} until it is {is}"),
            Self::NeverShows { path, is } => write!(f, "{path} was never {is}"),
            Self::ReadComposite { paths, .. } => write!(f, "read {} at once", paths.join(", ")),
            Self::Needs { path } => write!(f, "the client has {path}"),
            Self::NeedsValue { path, is, .. } => write!(f, "the client has {is} at {path}"),
            Self::Ensure { object, instance, .. } => write!(f, "the client has /{object}/{instance}"),
            Self::Calm => f.write_str("write 0 to /1/x/2 and /1/x/3, where they are"),
            Self::Write { path, mode, values, format } => {
                write!(f, "{} {path}:", if *mode == WriteMode::Replace { "write" } else { "update" })?;
                tell(f, values)?;
                format.map_or(Ok(()), |format| write!(f, " in format {format}"))
            }
            Self::Offer { path, values } => {
                write!(f, "offer {path}:")?;
                tell(f, values)
            }
            Self::WriteComposite { values } => {
                f.write_str("write at once:")?;
                tell(f, values)
            }
            Self::Execute { path, .. } => write!(f, "execute {path}"),
            Self::Create { object, instance, values } => {
                write!(f, "create /{object}/{instance}:")?;
                tell(f, values)
            }
            Self::Delete { path } => write!(f, "delete {path}"),
            Self::DeleteAll { object } => write!(f, "delete all instances of /{object}"),
            Self::Refuses { asked, codes } => {
                let codes: Vec<String> =
                    codes.iter().map(|(class, detail)| format!("{class}.{detail:02}")).collect();
                write!(f, "the client refuses {asked} with {}", codes.join(" or "))
            }
            Self::Discover { path, .. } => write!(f, "discover {path}"),
            Self::Attributes { path, query } => write!(f, "write the attributes {query} of {path}"),
            Self::Restore { path, .. } => write!(f, "restore {path}"),
            Self::Observe { path } => write!(f, "observe {path}"),
            Self::ObserveComposite { paths, .. } => write!(f, "observe {} at once", paths.join(", ")),
            Self::Cancel { path } => write!(f, "cancel the observation of {path}"),
            Self::Unmute => f.write_str("write false to /1/x/23, where it is"),
            Self::Second(step) => write!(f, "second server: {step}"),
            Self::Times(times, step) => write!(f, "{times} times: {step}"),
            step => step.tell_client(f),
        }
    }
}

impl Step {
    /// What the client does by itself.
    fn tell_client(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lists { object, version } => {
                write!(f, "the client registered /{object} in version {version}")
            }
            Self::UpdatesLifetime { lifetime: Some(lifetime) } => {
                write!(f, "the client sends an Update with lt={lifetime}")
            }
            Self::UpdatesLifetime { lifetime: None } => {
                f.write_str("the client sends an Update with its first lifetime")
            }
            Self::Updates => f.write_str("the client sends an Update"),
            Self::UpdatesBare => f.write_str("the client sends an Update without parameters"),
            Self::UpdatesBareOrExpires { lifetime } => {
                write!(f, "the client sends an Update without parameters, or is dropped after {lifetime} s")
            }
            Self::UpdatesObjects { path } => write!(f, "the client sends an Update that lists {path}"),
            Self::StaysRegistered { seconds } => {
                write!(f, "the client is still registered {seconds} s after it began")
            }
            Self::Deregisters => f.write_str("the client de-registers"),
            Self::Forget => f.write_str("the server forgets the client"),
            Self::UpdateIsNotFound => f.write_str("the next Update is answered 4.04"),
            Self::IsQueued => f.write_str("the server knows that the client is in queue mode"),
            Self::SleepsAndIsAsked { path } => {
                write!(f, "a read of {path} reaches the client that sleeps after its next Update")
            }
            Self::Notifies { path, times, pmin, pmax } => {
                write!(f, "{times} or more notifications of {path}, {pmin} to {pmax} s apart")
            }
            Self::NotifiesOf { path, .. } => write!(f, "a notification of {path} has the values"),
            Self::Reset { path, .. } => write!(f, "the server resets the next notification of {path}"),
            Self::StaysSilent { path, seconds } => {
                write!(f, "no notification of {path} in the next {seconds} s")
            }
            Self::Reports { .. } => f.write_str("the client reports by itself"),
            Self::ReportsNothing { seconds } => write!(f, "the client reports nothing for {seconds} s"),
            Self::AsksForBootstrap { .. } => f.write_str("the client sends a Bootstrap-Request"),
            Self::TakesWrite { path } => write!(f, "the client takes a Bootstrap-Write of {path}"),
            Self::TakesDelete { path } => write!(f, "the client takes a Bootstrap-Delete of {path}"),
            Self::ShowsInBootstrap { path, .. } => {
                write!(f, "the client answers a Bootstrap-Read of {path}")
            }
            Self::ShowsAccounts => f.write_str("the client shows its accounts in a Bootstrap-Discover"),
            Self::ShowsNoAccount => {
                f.write_str("the client shows no account but the bootstrap account in a Bootstrap-Discover")
            }
            Self::FinishesBootstrap => f.write_str("the client acknowledges Bootstrap-Finish"),
            Self::RefusesFinish => f.write_str("the client refuses Bootstrap-Finish with 4.06"),
            Self::AskedForNoBootstrap => f.write_str("the client has not asked for a bootstrap"),
            Self::CameSecured => f.write_str("everything came over DTLS"),
            Self::CameProtected => f.write_str("everything was protected by OSCORE"),
            Self::RefusesServer => f.write_str("the client breaks the handshake off"),
            _ => Ok(()),
        }
    }
}

fn tell(f: &mut fmt::Formatter<'_>, values: &[(&str, Literal)]) -> fmt::Result {
    values.iter().try_for_each(|(at, value)| match at.is_empty() {
        true => write!(f, " {value}"),
        false => write!(f, " {at}={value}"),
    })
}
