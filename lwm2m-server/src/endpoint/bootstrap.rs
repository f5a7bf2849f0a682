//! One bootstrap of one device, seen from the bootstrap server (LwM2M Core 1.2.1 §6.1.7).
//!
//! 1. Bootstrap-Request came, the plan is known: 2.04.
//! 2. Discover `/`: where the bootstrap account and the accounts of servers are.
//! 3. Delete: further instances of the account that is written.
//!    With steps of its own a plan also reads, deletes and writes elsewhere, in its order.
//! 4. Write `/0/x` and `/1/y`, and `/21/z` of an account under OSCORE, whole instances, in the format the device prefers; after a 4.15 once more in the other one. Write
//!    `/3/0/13`, when the server is configured to: a device that has no clock, or one of its own alone, may refuse it.
//! 5. Discover again, when the server is configured to verify: both instances must show the Short Server ID.
//! 6. Finish: 2.04 ends it; 4.06 means that the device finds the configuration inconsistent.
//! 7. After a 4.06, once: Discover again, delete also halves of other accounts, write both instances again, Finish.
//!
//! Every answer is checked. Invariants: nothing is deleted that the device was not seen to have; the bootstrap account's own
//! instance is neither written nor deleted, unless the device cannot say where it is and its profile names that instance.

use std::collections::VecDeque;

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::{Format, Path};

use crate::credentials::{BootstrapPlan, BootstrapStep, Discovered, Setting};

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
    has_other_format: bool,
    is_verified: bool,
    /// What the device is known to have; `None` when it does not say.
    found: Option<Discovered>,
    /// Whether what is missing in `found` is missing on the device.
    is_found_whole: bool,
    /// What was done about a 4.06, in words.
    correction: Option<String>,
    /// Whose answer is awaited.
    step: Step,
    /// The time is put in when its turn comes.
    rest: VecDeque<(Step, Outgoing)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Discover,
    Delete(Path),
    Write(Path),
    /// Bootstrap-Read, or a further Discover.
    Look(Path),
    Time,
    Verify,
    Finish,
    Inspect,
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
        Self {
            who,
            deadline,
            plan,
            // §6.1.7.1: pct names the format the device wants; without it TLV, which 1.0 clients must know.
            format: preferred.unwrap_or(Format::TLV),
            has_other_format: true,
            is_verified,
            found: None,
            is_found_whole: false,
            correction: None,
            step: Step::Discover,
            rest: VecDeque::new(),
        }
    }

    /// The generation of the credential that it delivers.
    pub(crate) fn generation(&self) -> u32 {
        self.plan.generation
    }

    /// The request under way, in words.
    pub(crate) fn step(&self) -> String {
        match (self.step, &self.correction) {
            (Step::Discover, _) => "Bootstrap-Discover /".to_owned(),
            (Step::Delete(path), _) => format!("Bootstrap-Delete {path}"),
            (Step::Write(path), _) => format!("Bootstrap-Write {path}"),
            (Step::Look(path), _) if path == Path::ROOT => "Bootstrap-Discover / between".to_owned(),
            (Step::Look(path), _) => format!("Bootstrap-Read {path}"),
            (Step::Time, _) => "Bootstrap-Write /3/0/13".to_owned(),
            (Step::Verify, _) => "Bootstrap-Discover / after the writes".to_owned(),
            (Step::Finish, None) => "Bootstrap-Finish".to_owned(),
            (Step::Finish, Some(correction)) => {
                format!("Bootstrap-Finish again, after a correction ({correction})")
            }
            (Step::Inspect, _) => "Bootstrap-Discover / after a 4.06 to Bootstrap-Finish".to_owned(),
        }
    }

    /// The first request; `None` when the plan cannot be encoded. The wall clock is that of now.
    pub(crate) fn start(&mut self, wall_clock: u64) -> Option<Outgoing> {
        if !self.plan.is_blind {
            return Some(discover());
        }
        self.is_verified = false;
        self.arrange();
        self.next(wall_clock)
    }

    /// Takes the answer to the last request. The wall clock is that of now.
    pub(crate) fn answer(&mut self, wall_clock: u64, reply: &Reply) -> Next {
        let is_accepted = match (self.step, reply.code) {
            (Step::Discover | Step::Inspect, Code::CONTENT) => {
                let Some((found, is_whole)) = discovered(&reply.body) else { return Next::Malformed };
                self.found = Some(found);
                self.is_found_whole = is_whole;
                self.arrange()
            }
            // A device without Bootstrap-Discover, or without link-format, is written blind, to the instances the plan
            // names. Devices of 1.0 without it say so with various codes, Wakaama with 4.00. One that cannot answer now
            // may be able to the next time.
            (
                Step::Discover,
                Code::BAD_REQUEST
                | Code::BAD_OPTION
                | Code::NOT_FOUND
                | Code::METHOD_NOT_ALLOWED
                | Code::NOT_ACCEPTABLE
                | Code::UNSUPPORTED_CONTENT_FORMAT
                | Code::NOT_IMPLEMENTED,
            ) => {
                self.is_verified = false;
                self.arrange()
            }
            // Gone already is as good.
            (Step::Delete(path), Code::DELETED | Code::NOT_FOUND) => {
                self.forget(path);
                true
            }
            (Step::Write(_), Code::UNSUPPORTED_CONTENT_FORMAT) if self.has_other_format => {
                self.has_other_format = false;
                self.format = if self.format == Format::TLV { Format::SENML_CBOR } else { Format::TLV };
                self.arrange()
            }
            // What was deleted is not there any more.
            (Step::Write(_), Code::CHANGED)
            | (Step::Look(_), Code::CONTENT | Code::NOT_FOUND)
            | (Step::Time, _) => true,
            (Step::Verify, Code::CONTENT) => {
                let Some((found, _)) = discovered(&reply.body) else { return Next::Malformed };
                let ours = Some(self.plan.short_server_id);
                let is_there = |accounts: &[(u16, Option<u16>)]| accounts.iter().any(|(_, id)| *id == ours);
                let has_context = self.plan.oscore.is_empty() || !found.oscore.is_empty();
                is_there(&found.security) && is_there(&found.server) && has_context
            }
            (Step::Finish, Code::CHANGED) => return Next::Finished,
            (Step::Finish, Code::NOT_ACCEPTABLE) if self.found.is_some() && self.correction.is_none() => {
                self.correction = Some(String::new());
                self.rest.push_back((Step::Inspect, discover()));
                true
            }
            _ => false,
        };
        match is_accepted.then(|| self.next(wall_clock)).flatten() {
            Some(outgoing) => Next::Send(outgoing),
            None => Next::Failed,
        }
    }

    fn next(&mut self, wall_clock: u64) -> Option<Outgoing> {
        let (step, outgoing) = self.rest.pop_front()?;
        self.step = step;
        if step != Step::Time {
            return Some(outgoing);
        }
        let time = [(13, Setting::Integer(i64::try_from(wall_clock / 1000).ok()?))];
        let body = content::encode_settings(self.format, Path::instance(3, 0), &time).ok()?;
        Some(outgoing.body(self.format, body))
    }

    /// Arranges all further requests; `false` when the plan cannot be encoded.
    fn arrange(&mut self) -> bool {
        let none = Discovered::default();
        let found = self.found.as_ref().unwrap_or(&none);
        let writes = self.plan.writes(found);
        let mut doomed = Vec::new();
        for (object, known) in [(0, &found.security), (1, &found.server), (21, &found.oscore)] {
            let written = writes.iter().find(|write| write.object == object).map(|write| write.instance);
            // Another instance with the same Short Server ID would be a second account of this server.
            doomed.extend(known.iter().filter_map(|(instance, id)| {
                (*id == Some(self.plan.short_server_id) && Some(*instance) != written)
                    .then_some(Path::instance(object, *instance))
            }));
        }
        if self.correction.is_some() {
            if self.is_found_whole {
                doomed.extend(halves(found, self.plan.short_server_id));
            }
            let deleted: Vec<String> = doomed.iter().map(|path| format!("{path} deleted, ")).collect();
            let written: Vec<String> =
                writes.iter().map(|write| format!("/{}/{}", write.object, write.instance)).collect();
            self.correction = Some(format!("{}{} written again", deleted.concat(), written.join(" and ")));
        }
        let delete = |path| (Step::Delete(path), Outgoing::new(Code::DELETE, request::uri(None, path)));
        let write = |path, body| {
            let outgoing = Outgoing::new(Code::PUT, request::uri(None, path));
            (Step::Write(path), outgoing.body(self.format, body))
        };
        let mut rest = VecDeque::new();
        // What is corrected is the account.
        let steps = match self.plan.steps.as_slice() {
            steps if !steps.is_empty() && self.correction.is_none() => steps,
            _ => &[BootstrapStep::Account],
        };
        for step in steps {
            match step {
                BootstrapStep::Account => {
                    rest.extend(doomed.drain(..).map(delete));
                    for account in &writes {
                        let path = Path::instance(account.object, account.instance);
                        let body = content::encode_settings(self.format, path, &account.resources);
                        let Ok(body) = body else { return false };
                        rest.push_back(write(path, body));
                    }
                }
                BootstrapStep::Discover => rest.push_back((Step::Look(Path::ROOT), discover())),
                BootstrapStep::Read(path) => {
                    let outgoing = Outgoing::new(Code::GET, request::uri(None, *path)).accept(self.format);
                    rest.push_back((Step::Look(*path), outgoing));
                }
                BootstrapStep::Delete(path) => rest.push_back(delete(*path)),
                BootstrapStep::Write(path, values) => {
                    let Ok(body) = content::encode(self.format, &(*path).into(), values) else {
                        return false;
                    };
                    rest.push_back(write(*path, body));
                }
            }
        }
        if self.plan.writes_time {
            let uri = request::uri(None, Path::resource(3, 0, 13));
            rest.push_back((Step::Time, Outgoing::new(Code::PUT, uri)));
        }
        if self.is_verified && steps.contains(&BootstrapStep::Account) {
            rest.push_back((Step::Verify, discover()));
        }
        rest.push_back((Step::Finish, Outgoing::new(Code::POST, "bs")));
        self.rest = rest;
        true
    }

    fn forget(&mut self, path: Path) {
        let Some(found) = &mut self.found else { return };
        let known = match path.object_id() {
            Some(0) => &mut found.security,
            Some(1) => &mut found.server,
            Some(21) => &mut found.oscore,
            _ => return,
        };
        // Of a whole object the bootstrap account survives.
        known.retain(|(instance, id)| match path.instance_id() {
            Some(gone) => *instance != gone,
            None => path.object_id() != Some(1) && id.is_none(),
        });
    }
}

/// Instances of `/0` without their counterpart in `/1` and the other way round: no account can be made of them. The
/// bootstrap account has no Short Server ID and never is one.
fn halves(found: &Discovered, ours: u16) -> Vec<Path> {
    let mut halves = Vec::new();
    for (object, these, those) in [(0, &found.security, &found.server), (1, &found.server, &found.security)] {
        halves.extend(these.iter().filter_map(|(instance, id)| {
            let is_whole = |id: u16| id == ours || those.iter().any(|(_, other)| *other == Some(id));
            id.filter(|id| !is_whole(*id)).map(|_| Path::instance(object, *instance))
        }));
    }
    halves
}

fn discover() -> Outgoing {
    Outgoing::new(Code::GET, "").accept(Format::LINK)
}

/// The accounts in the answer to a Bootstrap-Discover, and whether what it leaves out is not there. Of one that can only be
/// read in part, the part will do when it shows the bootstrap account, which is what must not be written over.
fn discovered(body: &[u8]) -> Option<(Discovered, bool)> {
    let (shown, mut is_readable) = request::links(body);
    let mut found = Discovered::default();
    for link in shown.links {
        let Ok(path) = link.target.parse::<Path>() else {
            is_readable = false;
            continue;
        };
        let attribute = |name| link.attributes.iter().find(|(other, _)| other == name)?.1.as_deref();
        // 0 and 65535 name no server: devices show them at the bootstrap account.
        let server = attribute("ssid").and_then(|id| id.parse().ok()).filter(|id| (1..u16::MAX).contains(id));
        match *path.ids() {
            [0, instance] => found.security.push((instance, server)),
            [1, instance] => found.server.push((instance, server)),
            [21, instance] => found.oscore.push((instance, server)),
            _ => {}
        }
    }
    let nameless = |accounts: &[(u16, Option<u16>)]| accounts.iter().filter(|(_, id)| id.is_none()).count();
    // Some devices list instances without their Short Server IDs, or only those of one of the objects.
    let is_whole = is_readable
        && !found.security.is_empty()
        && !found.server.is_empty()
        && nameless(&found.security) <= 1
        && nameless(&found.server) == 0;
    (is_readable || nameless(&found.security) > 0).then_some((found, is_whole))
}
