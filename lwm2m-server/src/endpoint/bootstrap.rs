//! One bootstrap of one device, seen from the bootstrap server (LwM2M Core 1.2.1 §6.1.7).
//!
//! 1. Bootstrap-Request came, the plan is known: 2.04.
//! 2. Discover `/`: where the bootstrap account and the accounts of servers are.
//! 3. Delete: further instances of the account that is written.
//! 4. Write `/0/x` and `/1/y`, whole instances, in the format the device prefers.
//! 5. Finish: 2.04 ends it; 4.06 means that the device finds the configuration inconsistent.
//!
//! Every answer is checked. Invariant: the bootstrap account's own instance is neither written nor deleted.

use std::collections::VecDeque;

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::{Format, Path};

use crate::credentials::{BootstrapPlan, Discovered};

use super::association::Who;
use super::content;
use super::exchange::{Outgoing, Reply};
use super::request;

/// A bootstrap under way.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) who: Who,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    plan: Box<BootstrapPlan>,
    format: Format,
    /// Whose answer is awaited.
    step: Step,
    rest: VecDeque<(Step, Outgoing)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Discover,
    Delete(Path),
    Write(Path),
    Finish,
}

/// What follows from an answer.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next request.
    Send(Outgoing),
    /// The device acknowledged Bootstrap-Finish.
    Finished,
    /// The step failed.
    Failed,
}

impl Bootstrap {
    pub(crate) fn new(
        who: Who,
        plan: Box<BootstrapPlan>,
        preferred: Option<Format>,
        deadline: Instant,
    ) -> Self {
        // §6.1.7.1: pct names the format the device wants; without it TLV, which 1.0 clients must know.
        let format = preferred.unwrap_or(Format::TLV);
        Self { who, deadline, plan, format, step: Step::Discover, rest: VecDeque::new() }
    }

    /// The generation of the credential that it delivers.
    pub(crate) fn generation(&self) -> u32 {
        self.plan.generation
    }

    /// The request under way, in words.
    pub(crate) fn step(&self) -> String {
        match self.step {
            Step::Discover => "Bootstrap-Discover /".to_owned(),
            Step::Delete(path) => format!("Bootstrap-Delete {path}"),
            Step::Write(path) => format!("Bootstrap-Write {path}"),
            Step::Finish => "Bootstrap-Finish".to_owned(),
        }
    }

    /// The first request.
    pub(crate) fn start(&self) -> Outgoing {
        Outgoing::new(Code::GET, "").accept(Format::LINK)
    }

    /// Takes the answer to the last request.
    pub(crate) fn answer(&mut self, reply: &Reply) -> Next {
        let is_accepted = match self.step {
            Step::Discover => match reply.code {
                Code::CONTENT => self.arrange(&discovered(&String::from_utf8_lossy(&reply.body))),
                // A device without Bootstrap-Discover is written blind, to the instances the plan names.
                Code::NOT_FOUND | Code::METHOD_NOT_ALLOWED | Code::NOT_IMPLEMENTED => {
                    self.arrange(&Discovered::default())
                }
                _ => false,
            },
            Step::Delete(_) => reply.code == Code::DELETED,
            Step::Write(_) => reply.code == Code::CHANGED,
            Step::Finish if reply.code == Code::CHANGED => return Next::Finished,
            Step::Finish => false,
        };
        match self.rest.pop_front().filter(|_| is_accepted) {
            Some((step, outgoing)) => {
                self.step = step;
                Next::Send(outgoing)
            }
            None => Next::Failed,
        }
    }

    /// Arranges all further requests; `false` when the plan cannot be encoded.
    fn arrange(&mut self, found: &Discovered) -> bool {
        let mut writes = Vec::new();
        for write in self.plan.writes(found) {
            let path = Path::instance(write.object, write.instance);
            let Ok(body) = content::encode_settings(self.format, path, write.resources) else { return false };
            let outgoing = Outgoing::new(Code::PUT, format!("{}/{}", write.object, write.instance));
            writes.push((Step::Write(path), outgoing.body(self.format, body)));
            let known = if write.object == 0 { &found.security } else { &found.server };
            // Another instance with the same Short Server ID would be a second account of this server.
            for (instance, id) in known {
                if *id == Some(self.plan.short_server_id) && *instance != write.instance {
                    let outgoing = Outgoing::new(Code::DELETE, format!("{}/{instance}", write.object));
                    self.rest.push_back((Step::Delete(Path::instance(write.object, *instance)), outgoing));
                }
            }
        }
        self.rest.extend(writes);
        self.rest.push_back((Step::Finish, Outgoing::new(Code::POST, "bs")));
        true
    }
}

/// Reads the answer to Bootstrap-Discover tolerantly: the root link may be missing or without a target, and unknown
/// links and attributes are skipped (§6.1.7.3).
fn discovered(text: &str) -> Discovered {
    let mut found = Discovered::default();
    for link in request::links(text).links {
        let Ok(path) = link.target.trim_end_matches('/').parse::<Path>() else { continue };
        let &[object, instance] = path.ids() else { continue };
        let ssid = link.attributes.iter().find(|(name, _)| name == "ssid");
        let ssid = ssid.and_then(|(_, value)| value.as_ref()?.parse().ok());
        match object {
            0 => found.security.push((instance, ssid)),
            1 => found.server.push((instance, ssid)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discover_answer_tells_accounts_by_their_short_server_id() {
        for text in [
            "</>;lwm2m=1.1,</0/0>,</0/1>;ssid=101;uri=\"coaps://[::1]:5684\",</1/0>;ssid=101,</3/0>,</5>",
            "lwm2m=1.0,</0/0>, </0/1>;ssid=101,</1/0/>;ssid=101,</3/0>",
            "</>;lwm2m=\"1.2\",</0>,</0/0>,</0/1>;uri=\"coaps://a\";ssid=\"101\",</1/0>;ssid=101;short=\"x,y\"",
        ] {
            let found = discovered(text);
            assert_eq!(found.security, [(0, None), (1, Some(101))], "{text}");
            assert_eq!(found.server, [(0, Some(101))], "{text}");
        }
        assert_eq!(discovered("\u{0}\u{1}<<</"), Discovered::default());
    }
}
