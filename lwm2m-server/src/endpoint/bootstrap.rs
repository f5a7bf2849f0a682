//! One bootstrap of one device, seen from the bootstrap server (LwM2M Core 1.2.1 §6.1.7).
//!
//! 1. Bootstrap-Request came, the plan is known: 2.04.
//! 2. Discover `/`: where the bootstrap account and the accounts of servers are.
//! 3. Delete: further instances of the account that is written.
//! 4. Write `/0/x` and `/1/y`, whole instances, in the format the device prefers.
//! 5. Discover again, when the server is configured to verify: both instances must show the Short Server ID.
//! 6. Finish: 2.04 ends it; 4.06 means that the device finds the configuration inconsistent.
//!
//! Every answer is checked. Invariant: the bootstrap account's own instance is neither written nor deleted.

use std::collections::VecDeque;

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::{Format, Path};

use crate::credentials::{BootstrapPlan, Discovered};

use super::association::Who;
use super::content;
use super::exchange::{Outgoing, Reply};

/// A bootstrap under way.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) who: Who,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    plan: Box<BootstrapPlan>,
    format: Format,
    is_verified: bool,
    /// Whose answer is awaited.
    step: Step,
    rest: VecDeque<(Step, Outgoing)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Discover,
    Delete(Path),
    Write(Path),
    Verify,
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
    /// The answer cannot be read.
    Malformed,
}

impl Bootstrap {
    pub(crate) fn new(
        who: Who,
        plan: Box<BootstrapPlan>,
        preferred: Option<Format>,
        is_verified: bool,
        deadline: Instant,
    ) -> Self {
        // §6.1.7.1: pct names the format the device wants; without it TLV, which 1.0 clients must know.
        let format = preferred.unwrap_or(Format::TLV);
        Self { who, deadline, plan, format, is_verified, step: Step::Discover, rest: VecDeque::new() }
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
            Step::Verify => "Bootstrap-Discover / after the writes".to_owned(),
            Step::Finish => "Bootstrap-Finish".to_owned(),
        }
    }

    /// The first request.
    pub(crate) fn start(&self) -> Outgoing {
        discover()
    }

    /// Takes the answer to the last request.
    pub(crate) fn answer(&mut self, reply: &Reply) -> Next {
        let is_accepted = match self.step {
            Step::Discover => match reply.code {
                Code::CONTENT => match discovered(&reply.body) {
                    Some(found) => self.arrange(&found),
                    None => return Next::Malformed,
                },
                // A device without Bootstrap-Discover is written blind, to the instances the plan names.
                Code::NOT_FOUND | Code::METHOD_NOT_ALLOWED | Code::NOT_IMPLEMENTED => {
                    self.is_verified = false;
                    self.arrange(&Discovered::default())
                }
                _ => false,
            },
            Step::Delete(_) => reply.code == Code::DELETED,
            Step::Write(_) => reply.code == Code::CHANGED,
            Step::Verify if reply.code == Code::CONTENT => {
                let Some(found) = discovered(&reply.body) else { return Next::Malformed };
                let ours = Some(self.plan.short_server_id);
                let is_there = |accounts: &[(u16, Option<u16>)]| accounts.iter().any(|(_, id)| *id == ours);
                is_there(&found.security) && is_there(&found.server)
            }
            Step::Verify => false,
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
        if self.is_verified {
            self.rest.push_back((Step::Verify, discover()));
        }
        self.rest.push_back((Step::Finish, Outgoing::new(Code::POST, "bs")));
        true
    }
}

fn discover() -> Outgoing {
    Outgoing::new(Code::GET, "").accept(Format::LINK)
}

/// The accounts in the answer to a Bootstrap-Discover.
fn discovered(body: &[u8]) -> Option<Discovered> {
    let mut found = Discovered::default();
    for entry in lwm2m_objects::Discovered::parse(body).ok()?.iter() {
        match *entry.path.ids() {
            [0, instance] => found.security.push((instance, entry.server)),
            [1, instance] => found.server.push((instance, entry.server)),
            _ => {}
        }
    }
    Some(found)
}
