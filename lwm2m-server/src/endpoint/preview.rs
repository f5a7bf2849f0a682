//! What a bootstrap would ask of a device, before there is one.
//!
//! Invariant: it is the bootstrap itself that is asked, with a device that shows what is assumed and agrees to everything; so what it
//! writes is, byte for byte, what a device is sent that shows the same. What is secret is told by its length.

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::{Format, Path, defs};

use super::association::Who;
use super::bootstrap::{Bootstrap, Next, Step, Written};
use super::exchange::{Outgoing, Reply};
use crate::Value;
use crate::credentials::{BootstrapPlan, Role, Setting};

/// A request of a bootstrap.
#[derive(Clone, PartialEq)]
pub struct Previewed {
    /// Its name in LwM2M Core 1.2.1 §6.
    pub operation: &'static str,
    /// Where it goes; `None` for Bootstrap-Finish.
    pub path: Option<Path>,
    /// The content format of what is written, a number of CoAP.
    pub format: Option<u16>,
    /// What is written, at its places.
    pub values: Vec<(Path, Shown)>,
    /// Whether what the Discover shows decides on it: with another device it may go elsewhere, or not at all.
    pub is_placed: bool,
    /// What is sent, secrets and all.
    pub payload: Vec<u8>,
}

impl core::fmt::Debug for Previewed {
    // There may be a key in the payload.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let path = self.path.map(|path| path.to_string()).unwrap_or_default();
        write!(f, "{} {path} {:?}, {} bytes", self.operation, self.values, self.payload.len())
    }
}

/// A value, if it may be shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// What it is.
    Value(Value),
    /// How many bytes it has.
    Hidden(usize),
}

/// Everything that the bootstrap server asks of a device that shows this, link-format, and agrees to everything; `preferred` is the
/// content format that it wants, a number of CoAP, the wall clock that of now in milliseconds since 1970.
///
/// # Errors
/// Why such a bootstrap fails, in words.
pub fn preview(
    plan: BootstrapPlan,
    preferred: Option<u16>,
    discovered: &[u8],
    wall_clock: u64,
) -> Result<Vec<Previewed>, &'static str> {
    let who = Who::Unsecured { role: Role::Bootstrap, endpoint: plan.endpoint.clone() };
    let deadline = Instant::from_millis(u64::MAX);
    let mut bootstrap = Bootstrap::new(who, Box::new(plan), preferred.map(Format), deadline);
    let mut requests = Vec::new();
    let mut outgoing = bootstrap.start(wall_clock).ok_or("it cannot be begun")?;
    loop {
        let step = bootstrap.current().step;
        requests.push(told(&bootstrap, outgoing, wall_clock));
        let code = match step {
            Step::Discover | Step::Look(_) | Step::Verify | Step::Inspect => Code::CONTENT,
            Step::Delete(_) => Code::DELETED,
            Step::Write(_) | Step::Time | Step::Finish => Code::CHANGED,
        };
        let body = discovered.to_vec();
        let reply = Reply { code, format: None, observe: None, max_age: None, location: String::new(), body };
        let next = match step {
            // By then it would show more than is assumed: what was written.
            Step::Verify => bootstrap.follow(wall_clock),
            _ => bootstrap.answer(wall_clock, &reply),
        };
        match next {
            Next::Send(next) => outgoing = next,
            Next::Finished => return Ok(requests),
            Next::Failed => return Err("the bootstrap would not come to its end"),
            Next::Unusable(why) => return Err(why),
        }
    }
}

fn told(bootstrap: &Bootstrap, outgoing: Outgoing, wall_clock: u64) -> Previewed {
    let (operation, path) = match bootstrap.current().step {
        Step::Discover | Step::Verify | Step::Inspect => ("Bootstrap-Discover", Some(Path::ROOT)),
        Step::Look(path) if path == Path::ROOT => ("Bootstrap-Discover", Some(path)),
        Step::Look(path) => ("Bootstrap-Read", Some(path)),
        Step::Delete(path) => ("Bootstrap-Delete", Some(path)),
        Step::Write(path) => ("Bootstrap-Write", Some(path)),
        Step::Time => ("Bootstrap-Write", Some(Path::resource(3, 0, 13))),
        Step::Finish => ("Bootstrap-Finish", None),
    };
    let mut values = Vec::new();
    for written in bootstrap.written() {
        match written {
            Written::Account(at, settings) => {
                let settings =
                    settings.iter().map(|(resource, setting)| Some((at.child(*resource)?, setting)));
                values.extend(settings.flatten().map(|(path, setting)| (path, shown_setting(path, setting))));
            }
            Written::Values(of) => {
                values.extend(of.iter().map(|(path, value)| (*path, shown(*path, value))));
            }
        }
    }
    if bootstrap.current().step == Step::Time {
        let seconds = i64::try_from(wall_clock / 1000).unwrap_or(i64::MAX);
        values.push((Path::resource(3, 0, 13), Shown::Value(Value::Time(seconds))));
    }
    values.retain(|(at, _)| path.is_some_and(|path| at.starts_with(path)));
    values.sort_by_key(|(path, _)| *path);
    Previewed {
        operation,
        path,
        format: outgoing.format.map(|format| format.0),
        values,
        is_placed: bootstrap.current().is_placed,
        payload: outgoing.body,
    }
}

fn is_secret(path: Path) -> bool {
    let secrets = path.object_id().and_then(defs::secrets);
    secrets.zip(path.resource_id()).is_some_and(|(secrets, resource)| secrets.contains(&resource))
}

fn shown(path: Path, value: &Value) -> Shown {
    match value {
        Value::String(text) if is_secret(path) => Shown::Hidden(text.len()),
        Value::Opaque(bytes) if is_secret(path) => Shown::Hidden(bytes.len()),
        value => Shown::Value(value.clone()),
    }
}

fn shown_setting(path: Path, setting: &Setting) -> Shown {
    Shown::Value(match setting {
        Setting::Text(text) => Value::String(text.clone()),
        Setting::Integer(value) => Value::Integer(*value),
        Setting::Boolean(value) => Value::Boolean(*value),
        Setting::Link(object, instance) => Value::ObjectLink(*object, *instance),
        Setting::Opaque(bytes) if is_secret(path) => return Shown::Hidden(bytes.len()),
        Setting::Opaque(bytes) => Value::Opaque(bytes.to_vec()),
    })
}
