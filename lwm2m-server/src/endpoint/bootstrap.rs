//! One bootstrap of one device, seen from the bootstrap server (LwM2M Core 1.2.1 §6.1.7).
//!
//! 1. Bootstrap-Request came, the plan is known: 2.04.
//! 2. Discover `/`: where the bootstrap account and the accounts of servers are.
//! 3. Delete: what the profile deletes, and further instances of the accounts that are written.
//!    With steps of its own a plan also reads, deletes and writes elsewhere, in its order.
//! 4. Write `/0/x` and `/1/y`, and `/21/z` of an account under OSCORE, in the format the device prefers; after a 4.15 once more in the
//!    other one. By its profile it is whole instances, whole objects or single resources. The accounts of other servers, Access Control
//!    and other objects follow. Write `/3/0/13`, when the server is configured to: a device that has no clock, or one of its own alone,
//!    may refuse it.
//! 5. Discover again, when the server is configured to verify: both instances must show the Short Server ID.
//! 6. Finish: 2.04 ends it; 4.06 means that the device finds the configuration inconsistent.
//! 7. After a 4.06, once: Discover again, delete also halves of other accounts, write the account of this server again, Finish.
//!
//! Every answer is checked. Invariants: of accounts nothing is deleted that the device was not seen to have; the bootstrap account's own
//! instance is neither written nor deleted, unless the device cannot say where it is and its profile names that instance. What is
//! written is encoded when its turn comes: of a long profile no more is held than of a short one.

use std::borrow::Cow;
use std::collections::VecDeque;

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::{Format, Path};

use crate::Value;
use crate::credentials::{AccountInstance, BootstrapPlan, BootstrapStep, Discovered, Setting};
use crate::profiles::WriteBy;

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
    /// Where the accounts go by what was found first: what is deleted then moves none that may be written already.
    places: Option<Vec<Vec<AccountInstance>>>,
    /// What was done about a 4.06, in words.
    correction: Option<String>,
    /// The request whose answer is awaited.
    current: Coming,
    rest: VecDeque<Coming>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
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

/// A request that is to come.
#[derive(Clone, Debug)]
pub(super) struct Coming {
    pub(super) step: Step,
    /// Where what is written at or below the path of a write comes from.
    sources: Vec<Source>,
    /// Whether what a Discover shows decides on it.
    pub(super) is_placed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Account(AccountInstance),
    /// A step of the plan, by its number.
    Step(usize),
}

/// What a request writes, at its places.
pub(super) enum Written<'b> {
    Account(Path, Cow<'b, [(u16, Setting)]>),
    Values(&'b [(Path, Value)]),
}

impl Coming {
    const fn new(step: Step) -> Self {
        Self { step, sources: Vec::new(), is_placed: false }
    }

    fn write(path: Path, source: Source) -> Self {
        let is_placed = matches!(source, Source::Account(_));
        Self { step: Step::Write(path), sources: vec![source], is_placed }
    }
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
    /// The answer is of no use, in words that follow its code.
    Unusable(&'static str),
}

impl Bootstrap {
    pub(crate) fn new(
        who: Who,
        plan: Box<BootstrapPlan>,
        preferred: Option<Format>,
        deadline: Instant,
    ) -> Self {
        Self {
            who,
            deadline,
            // §6.1.7.1: pct names the format the device wants; without it TLV, which 1.0 clients must know.
            format: plan.format.or(preferred).unwrap_or(Format::TLV),
            has_other_format: true,
            is_verified: plan.is_verified && !plan.is_blind,
            plan,
            found: None,
            is_found_whole: false,
            places: None,
            correction: None,
            current: Coming::new(Step::Discover),
            rest: VecDeque::new(),
        }
    }

    /// The generation of the credential that it delivers.
    pub(crate) fn generation(&self) -> u32 {
        self.plan.generation
    }

    /// The request under way, in words.
    pub(crate) fn step(&self) -> String {
        match (self.current.step, &self.correction) {
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

    /// The first request; `None` when the plan cannot be carried out. The wall clock is that of now.
    pub(crate) fn start(&mut self, wall_clock: u64) -> Option<Outgoing> {
        let first = match self.plan.is_blind {
            true => self.arrange(),
            false => {
                self.rest = VecDeque::from([Coming::new(Step::Discover)]);
                Ok(())
            }
        };
        first.and_then(|()| self.next(wall_clock)).ok()?
    }

    /// Takes the answer to the last request. The wall clock is that of now.
    pub(crate) fn answer(&mut self, wall_clock: u64, reply: &Reply) -> Next {
        let arranged = match (self.current.step, reply.code) {
            (Step::Discover | Step::Inspect, Code::CONTENT) => {
                let Some((found, is_whole)) = discovered(&reply.body) else {
                    return Next::Unusable(MALFORMED);
                };
                self.found = Some(found);
                self.is_found_whole = is_whole;
                self.places = None;
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
                if let Some(found) = &mut self.found {
                    found.forget(path);
                }
                Ok(())
            }
            (Step::Write(_), Code::UNSUPPORTED_CONTENT_FORMAT) if self.has_other_format => {
                self.has_other_format = false;
                self.format = if self.format == Format::TLV { Format::SENML_CBOR } else { Format::TLV };
                self.arrange()
            }
            // What was deleted is not there any more.
            (Step::Write(_), Code::CHANGED)
            | (Step::Look(_), Code::CONTENT | Code::NOT_FOUND)
            | (Step::Time, _) => Ok(()),
            (Step::Verify, Code::CONTENT) => {
                let Some((found, _)) = discovered(&reply.body) else { return Next::Unusable(MALFORMED) };
                if !self.are_written(&found) {
                    return Next::Failed;
                }
                Ok(())
            }
            (Step::Finish, Code::CHANGED) => return Next::Finished,
            (Step::Finish, Code::NOT_ACCEPTABLE) if self.found.is_some() && self.correction.is_none() => {
                self.correction = Some(String::new());
                self.rest.push_back(Coming::new(Step::Inspect));
                Ok(())
            }
            _ => return Next::Failed,
        };
        match arranged {
            Ok(()) => self.follow(wall_clock),
            Err(why) => Next::Unusable(why),
        }
    }

    /// Goes on with the next request.
    pub(super) fn follow(&mut self, wall_clock: u64) -> Next {
        match self.next(wall_clock) {
            Ok(Some(outgoing)) => Next::Send(outgoing),
            Ok(None) => Next::Failed,
            Err(why) => Next::Unusable(why),
        }
    }

    /// Whether a device shows the accounts that were written.
    fn are_written(&self, found: &Discovered) -> bool {
        let has_further = self.plan.steps().contains(&BootstrapStep::Further);
        let accounts = self.plan.accounts().take(if has_further { usize::MAX } else { 1 });
        let is_there = |known: &[(u16, Option<u16>)], id| known.iter().any(|(_, of)| *of == Some(id));
        accounts.into_iter().all(|account| {
            let id = account.short_server_id;
            let has_context = account.oscore.is_empty() || !found.oscore.is_empty();
            is_there(&found.security, id) && is_there(&found.server, id) && has_context
        })
    }

    fn next(&mut self, wall_clock: u64) -> Result<Option<Outgoing>, &'static str> {
        let Some(coming) = self.rest.pop_front() else { return Ok(None) };
        self.current = coming;
        let outgoing = match self.current.step {
            Step::Discover | Step::Verify | Step::Inspect => discover(),
            Step::Look(path) if path == Path::ROOT => discover(),
            Step::Look(path) => Outgoing::new(Code::GET, request::uri(None, path)).accept(self.format),
            Step::Delete(path) => Outgoing::new(Code::DELETE, request::uri(None, path)),
            Step::Write(path) => {
                let body = self.encode(path)?;
                Outgoing::new(Code::PUT, request::uri(None, path)).body(self.format, body)
            }
            Step::Time => {
                let seconds = i64::try_from(wall_clock / 1000).unwrap_or(i64::MAX);
                let time = [(Path::resource(3, 0, 13), lwm2m_objects::Value::Integer(seconds))];
                let body = content::encode_borrowed(self.format, Path::instance(3, 0), &time)?;
                let uri = request::uri(None, Path::resource(3, 0, 13));
                Outgoing::new(Code::PUT, uri).body(self.format, body)
            }
            Step::Finish => Outgoing::new(Code::POST, "bs"),
        };
        Ok(Some(outgoing))
    }

    /// What the request under way writes at or below a path.
    fn encode(&self, path: Path) -> Result<Vec<u8>, &'static str> {
        let written: Vec<Written<'_>> = self.written().collect();
        let mut values = Vec::new();
        for from in &written {
            match from {
                Written::Account(at, settings) => {
                    let settings = settings
                        .iter()
                        .map(|(resource, setting)| Some((at.child(*resource)?, setting.borrowed())));
                    values.extend(settings.collect::<Option<Vec<_>>>().ok_or("it has no such resource")?);
                }
                Written::Values(of) => {
                    values.extend(of.iter().map(|(path, value)| (*path, value.borrowed())));
                }
            }
        }
        values.retain(|(at, _)| at.starts_with(path));
        content::encode_borrowed(self.format, path, &values)
    }

    /// Where the request under way has its values from.
    pub(super) fn written(&self) -> impl Iterator<Item = Written<'_>> {
        self.current.sources.iter().map(|source| match source {
            Source::Account(at) => {
                Written::Account(Path::instance(at.object, at.instance), self.plan.resources(at))
            }
            Source::Step(number) => Written::Values(self.values(*number)),
        })
    }

    /// The request under way.
    pub(super) fn current(&self) -> &Coming {
        &self.current
    }

    fn values(&self, number: usize) -> &[(Path, Value)] {
        match self.plan.steps().get(number) {
            Some(BootstrapStep::Write(_, values)) => values,
            _ => &[],
        }
    }

    /// Arranges all further requests.
    ///
    /// # Errors
    /// What the device showed does not allow it, in words that follow the code of an answer.
    fn arrange(&mut self) -> Result<(), &'static str> {
        let none = Discovered::default();
        let found = self.found.as_ref().unwrap_or(&none);
        let accounts = self.places.get_or_insert_with(|| self.plan.place(found)).as_slice();
        // What is corrected is the account of this server.
        let steps = match self.correction {
            None => self.plan.steps(),
            Some(_) => &[BootstrapStep::Account],
        };
        let is_further = steps.contains(&BootstrapStep::Further);
        let written = if is_further { accounts } else { accounts.get(..1).unwrap_or_default() };
        let mut doomed = doubles(&self.plan, found, written);
        if self.correction.is_some() {
            if self.is_found_whole {
                doomed.extend(halves(found, self.plan.account.short_server_id));
            }
            let deleted: Vec<String> = doomed.iter().map(|path| format!("{path} deleted, ")).collect();
            let written: Vec<String> =
                written.iter().flatten().map(|at| format!("/{}/{}", at.object, at.instance)).collect();
            self.correction = Some(format!("{}{} written again", deleted.concat(), written.join(" and ")));
        }
        let is_placed = !self.plan.is_blind;
        let delete = |path, is_placed| Coming { is_placed, ..Coming::new(Step::Delete(path)) };
        let account = |at: &AccountInstance| {
            let at = *at;
            let write = Coming::write(Path::instance(at.object, at.instance), Source::Account(at));
            Coming { is_placed, ..write }
        };
        let mut rest = Vec::new();
        let mut cleared: Vec<Path> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                BootstrapStep::Account => {
                    let is_gone = |path: &Path| cleared.iter().any(|cleared| path.starts_with(*cleared));
                    rest.extend(
                        doomed.drain(..).filter(|path| !is_gone(path)).map(|path| delete(path, is_placed)),
                    );
                    rest.extend(accounts.first().into_iter().flatten().map(account));
                }
                BootstrapStep::Further => rest.extend(accounts.iter().skip(1).flatten().map(account)),
                BootstrapStep::Discover => rest.push(Coming::new(Step::Look(Path::ROOT))),
                BootstrapStep::Read(path) => rest.push(Coming::new(Step::Look(*path))),
                BootstrapStep::Delete(path) => rest.push(delete(*path, false)),
                // Before a write was refused for its format, all of it was deleted.
                BootstrapStep::Clear(_) if !self.has_other_format => {}
                BootstrapStep::Clear(path) => {
                    let paths = Discovered::clear(self.found.as_ref(), *path)?;
                    rest.extend(paths.iter().map(|path| delete(*path, is_placed)));
                    cleared.extend(paths);
                }
                BootstrapStep::Write(path, _) => rest.push(Coming::write(*path, Source::Step(number))),
            }
        }
        rest = self.divided(rest);
        if self.plan.writes_time {
            rest.push(Coming::new(Step::Time));
        }
        if self.is_verified && steps.contains(&BootstrapStep::Account) {
            rest.push(Coming::new(Step::Verify));
        }
        rest.push(Coming::new(Step::Finish));
        self.rest = rest.into();
        Ok(())
    }

    /// The same requests with as much in each of them as the plan says.
    fn divided(&self, rest: Vec<Coming>) -> Vec<Coming> {
        match self.plan.write_by {
            WriteBy::Instance => rest,
            WriteBy::Resource => rest.iter().flat_map(|coming| self.by_resource(coming)).collect(),
            WriteBy::Object => {
                let mut gathered: Vec<Coming> = Vec::with_capacity(rest.len());
                // Where the writes began that nothing else came between.
                let mut first = 0;
                for coming in rest {
                    let object = match coming.step {
                        Step::Write(path) => path.object_id().map(Path::object),
                        _ => None,
                    };
                    let Some(object) = object else {
                        gathered.push(coming);
                        first = gathered.len();
                        continue;
                    };
                    let step = Step::Write(object);
                    match gathered.iter_mut().skip(first).find(|other| other.step == step) {
                        Some(other) => {
                            other.sources.extend(coming.sources);
                            other.is_placed |= coming.is_placed;
                        }
                        None => gathered.push(Coming { step, ..coming }),
                    }
                }
                gathered
            }
        }
    }

    fn by_resource(&self, coming: &Coming) -> Vec<Coming> {
        let (Step::Write(path), [source]) = (coming.step, coming.sources.as_slice()) else {
            return vec![coming.clone()];
        };
        let mut paths: Vec<Path> = match source {
            Source::Account(at) => {
                self.plan.resources(at).iter().filter_map(|(resource, _)| path.child(*resource)).collect()
            }
            Source::Step(number) => self.values(*number).iter().map(|(path, _)| resource(*path)).collect(),
        };
        paths.dedup();
        let write = |path| Coming { step: Step::Write(path), ..coming.clone() };
        paths.into_iter().map(write).collect()
    }
}

/// The resource that a value belongs to, or is.
fn resource(path: Path) -> Path {
    path.parent().filter(|_| path.resource_instance_id().is_some()).unwrap_or(path)
}

/// Other instances with the Short Server ID of an account that is written: each would be a second account of its server.
fn doubles(plan: &BootstrapPlan, found: &Discovered, written: &[Vec<AccountInstance>]) -> Vec<Path> {
    let mut doubles = Vec::new();
    for (account, instances) in plan.accounts().zip(written) {
        for (object, known) in [(0, &found.security), (1, &found.server), (21, &found.oscore)] {
            let place = instances.iter().find(|at| at.object == object).map(|at| at.instance);
            doubles.extend(known.iter().filter_map(|(instance, id)| {
                (*id == Some(account.short_server_id) && Some(*instance) != place)
                    .then_some(Path::instance(object, *instance))
            }));
        }
    }
    doubles
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

const MALFORMED: &str = "malformed";

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
            [] | [0 | 1 | 21, ..] => {}
            _ => found.others.push(path),
        }
    }
    found.is_cut = !is_readable;
    // What is shown with and without an id may be the bootstrap account.
    for known in [&mut found.security, &mut found.oscore] {
        let nameless: Vec<_> = known.iter().filter(|(_, id)| id.is_none()).copied().collect();
        known.retain(|(instance, id)| id.is_none() || !nameless.contains(&(*instance, None)));
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::collections::BTreeMap;

    use lwm2m_objects::format::Items;
    use lwm2m_objects::{Content, Kind};
    use proptest::prelude::*;

    use super::*;
    use crate::credentials::{Role, ServerAccount};

    /// The accounts of a device: object and instance with the Short Server ID.
    type Accounts = BTreeMap<(u16, u16), Option<u16>>;

    fn account(short_server_id: u16) -> ServerAccount {
        let id = Setting::Integer(i64::from(short_server_id));
        ServerAccount {
            short_server_id,
            security_instance: (short_server_id == 7).then_some(1),
            server_instance: (short_server_id == 7).then_some(0),
            security: vec![(10, id.clone())],
            oscore: Vec::new(),
            server: vec![(0, id)],
        }
    }

    fn plan(clear: &[&str], write_by: WriteBy) -> BootstrapPlan {
        let mut steps: Vec<_> =
            clear.iter().map(|path| BootstrapStep::Clear(path.parse().unwrap())).collect();
        let value = (Path::resource(3303, 0, 5750), Value::String("x".to_owned()));
        let write = BootstrapStep::Write(Path::instance(3303, 0), [value].into());
        steps.extend([BootstrapStep::Account, BootstrapStep::Further, write]);
        BootstrapPlan {
            endpoint: "a".into(),
            generation: 1,
            is_blind: false,
            account: account(7),
            further: vec![account(8), account(9)],
            is_under_oscore: false,
            writes_time: false,
            is_verified: true,
            write_by,
            format: None,
            steps,
        }
    }

    fn shown(accounts: &Accounts) -> Vec<u8> {
        let link = |((object, instance), id): (&(u16, u16), &Option<u16>)| match id {
            Some(id) => format!("</{object}/{instance}>;ssid={id}"),
            None => format!("</{object}/{instance}>"),
        };
        accounts.iter().map(link).collect::<Vec<_>>().join(",").into_bytes()
    }

    /// Takes in what is written, as a device does.
    fn write(accounts: &mut Accounts, path: Path, outgoing: &Outgoing) {
        let content = Content { format: outgoing.format.unwrap(), payload: &outgoing.body };
        for item in Items::new(&path.into(), content).unwrap().map(Result::unwrap) {
            let [object @ (0 | 1), instance, resource] = *item.path.ids() else { continue };
            if (object, resource) == (0, 10) || (object, resource) == (1, 0) {
                let mut scratch = vec![0; item.raw.scratch_len()];
                let lwm2m_objects::Value::Integer(id) = item.raw.value(Kind::Integer, &mut scratch).unwrap()
                else {
                    unreachable!()
                };
                accounts.insert((object, instance), Some(u16::try_from(id).unwrap()));
            }
        }
    }

    #[test]
    fn what_is_shown_with_and_without_an_id_may_be_the_bootstrap_account() {
        let (found, _) = discovered(b"</0/1>;ssid=7,</0/1>,</0/2>;ssid=8,</21/1>,</21/1>;ssid=7").unwrap();
        assert_eq!(found.security, [(1, None), (2, Some(8))]);
        assert_eq!(found.oscore, [(1, None)]);
    }

    proptest! {
        #[test]
        fn whatever_a_device_has_and_refuses_its_bootstrap_account_stays_and_each_server_has_one_account(
            accounts in prop::collection::btree_map(
                (0_u16..2, 0_u16..6),
                prop::option::of(prop::sample::select(vec![1_u16, 7, 8, 9])),
                0..10,
            ),
            bootstrap in 0_u16..6,
            clear in prop::sample::subsequence(vec!["/0", "/1", "/21", "/3303"], 0..=4),
            write_by in prop::sample::select(vec![WriteBy::Instance, WriteBy::Object, WriteBy::Resource]),
            refused in 0_usize..20, inconsistent in any::<bool>(),
        ) {
            let mut accounts: Accounts = accounts;
            // Of /1 every instance has one.
            accounts.retain(|(object, _), id| *object == 0 || id.is_some());
            accounts.insert((0, bootstrap), None);
            let nameless: Vec<_> = accounts.iter().filter(|(_, id)| id.is_none()).map(|(at, _)| *at).collect();
            let who = Who::Unsecured { role: Role::Bootstrap, endpoint: "a".into() };
            let plan = Box::new(plan(&clear, write_by));
            let mut run = Bootstrap::new(who, plan, None, Instant::from_millis(u64::MAX));
            let mut outgoing = run.start(0).unwrap();
            let (mut writes, mut finishes) = (0_usize, 0_usize);
            loop {
                let step = run.current().step;
                let code = match step {
                    Step::Delete(path) => {
                        accounts.retain(|(object, instance), _| !Path::instance(*object, *instance).starts_with(path));
                        Code::DELETED
                    }
                    Step::Write(path) => {
                        writes = writes.saturating_add(1);
                        if writes == refused {
                            Code::UNSUPPORTED_CONTENT_FORMAT
                        } else {
                            write(&mut accounts, path, &outgoing);
                            Code::CHANGED
                        }
                    }
                    Step::Finish => {
                        finishes = finishes.saturating_add(1);
                        if finishes == 1 && inconsistent { Code::NOT_ACCEPTABLE } else { Code::CHANGED }
                    }
                    _ => Code::CONTENT,
                };
                for at in &nameless {
                    prop_assert_eq!(accounts.get(at), Some(&None), "{:?}", step);
                }
                let body = shown(&accounts);
                let (format, location) = (None, String::new());
                let reply = Reply { code, format, observe: None, max_age: None, location, body };
                match run.answer(0, &reply) {
                    Next::Send(next) => outgoing = next,
                    Next::Finished => break,
                    other => prop_assert!(false, "{other:?} at {}", run.step()),
                }
            }
            for (object, id) in [(0, 7), (0, 8), (0, 9), (1, 7), (1, 8), (1, 9)] {
                let count = accounts.iter().filter(|((of, _), known)| *of == object && **known == Some(id)).count();
                prop_assert_eq!(count, 1, "/{} of server {}", object, id);
            }
        }
    }
}
