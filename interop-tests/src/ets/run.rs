//! Runs one case: starts the client, takes the steps, and watches every message on the way.
//!
//! Invariant: what a device does by itself is judged by its messages, not by what the server made of them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwm2m_objects::Path;
use lwm2m_server::queue::Queue;
use lwm2m_server::{Content, Event, ObservationId, Operation, Packet, RequestError, Server, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::bench::{Bench, BenchError, Images, Site};
use super::case::{Case, DAY, Enabler, Entry, Script, Security, Verdict};
use super::depot::Depot;
use super::field::Post;
use super::message::Seen;
use super::operated::Running;
use super::outer::Outer;
use super::step::Step;
use super::subject::{Subject, Template, Values};

/// The command lines to start the client with, and how long it may take for a step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Start a client with a server account, a bootstrap account or both, with a pre-shared key or certificates.
    pub commands: Vec<Template>,
    /// How long a step may take beyond the time the case itself asks for.
    pub patience: Duration,
}

/// The result of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The enabler version it was run for.
    pub version: Enabler,
    /// The verdict.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// The last lines the client printed; only when the case failed.
    pub log: Vec<String>,
    /// The messages, as they were.
    pub trace: Vec<Packet>,
}

/// Why the steps ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed { expected: String, seen: String },
    NotApplicable(String),
}

pub(crate) type Outcomes<T = ()> = Result<T, Stop>;

impl Stop {
    pub(crate) fn failed(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::Failed { expected: expected.into(), seen: seen.into() }
    }
}

/// Runs a case to its verdict, for an enabler version that has it.
///
/// # Errors
/// When the bench fails; that says nothing about the client.
pub async fn run(bench: &Bench, plan: &Plan, case: &Case, version: Enabler) -> Result<Outcome, BenchError> {
    let began = Instant::now();
    let outcome = |verdict, log, trace| Outcome { version, verdict, took: began.elapsed(), log, trace };
    let (entry, template) = match choose(bench, plan, case, version) {
        Ok(chosen) => chosen,
        Err(reason) => return Ok(outcome(Verdict::NotApplicable { reason }, Vec::new(), Vec::new())),
    };
    let mut values = bench.enrol(case, entry, version)?;
    let outer = (case.security == Security::Oscore).then(|| Outer::before(&values.uri));
    if let Some(outer) = &outer {
        values.uri = outer.uri();
    }
    let site = if case.security == Security::Mismatch { &bench.second } else { &bench.first };
    let near = View::new(site);
    let is_of_two = case.script.iter().any(|step| matches!(step, Script::SecondAccount(..)));
    let far = is_of_two.then(|| View::new(&bench.second));
    let subject = match template.start(&values) {
        Ok(subject) => subject,
        Err(error) => {
            let verdict = Verdict::Fail {
                step: "the client starts".to_owned(),
                expected: "a process".to_owned(),
                seen: error.to_string(),
            };
            return Ok(outcome(verdict, Vec::new(), Vec::new()));
        }
    };
    let told = entry == Entry::Bootstrap || template.has("{lifetime}");
    let run = Run {
        images: &bench.images,
        depot: &bench.depot,
        values,
        client: Client::Process(subject),
        outer,
        near,
        far,
        trace: Vec::new(),
        patience: plan.patience,
        lifetime: case.lifetime,
        expected_lifetime: told.then_some(case.lifetime),
        expected_version: template.has("{lwm2m}").then(|| version.to_string()),
        first_reads: HashMap::new(),
        cannot: None,
        unasked: None,
    };
    // A client that was bootstrapped first for want of another command has not come to the case yet.
    let is_detour = entry == Entry::Bootstrap && case.entry != Entry::Bootstrap;
    let (verdict, log, trace) = run.take(case, is_detour).await;
    Ok(outcome(verdict, log, trace))
}

/// How the device of a case comes in, and the command for it.
fn choose<'p>(
    bench: &Bench,
    plan: &'p Plan,
    case: &Case,
    version: Enabler,
) -> Result<(Entry, &'p Template), String> {
    if let Some(reason) = case.left_out {
        return Err(reason.to_owned());
    }
    if case.is_of_1_0 && version != Enabler::V1_0 {
        return Err("its content format is of LwM2M 1.0 alone".to_owned());
    }
    let is_about_security = case.steps.iter().any(|step| matches!(step, Step::CameSecured));
    let is_certified = case.security.is_by_certificate();
    if (is_about_security || is_certified) && !bench.is_secure() {
        return Err("the run is without security".to_owned());
    }
    let is_protected = case.security == Security::Oscore;
    let find = |entry: Entry| {
        let wanted = [
            matches!(entry, Entry::Management | Entry::Both | Entry::Fallback),
            matches!(entry, Entry::Bootstrap | Entry::Both | Entry::Fallback),
            is_certified,
            is_protected,
        ];
        plan.commands.iter().find(|command| command.kind() == wanted)
    };
    let needs = |what: &str| format!("needs a --client command with {what}{}", case.security.placeholder());
    let (entry, template) = match case.entry {
        Entry::Management => match (find(Entry::Management), find(Entry::Bootstrap)) {
            (Some(template), _) if case.lifetime == DAY || template.has("{lifetime}") => {
                (Entry::Management, template)
            }
            // The bootstrap server says the lifetime.
            (_, Some(template)) if !case.is_queue_mode && !is_protected => (Entry::Bootstrap, template),
            (Some(_), _) => {
                return Err(format!("needs a lifetime of {} s: {{lifetime}} in the command", case.lifetime));
            }
            (None, _) => return Err(needs("{uri}")),
        },
        Entry::Bootstrap => (case.entry, find(case.entry).ok_or_else(|| needs("{bootstrap-uri}"))?),
        _ => (case.entry, find(case.entry).ok_or_else(|| needs("{uri} and {bootstrap-uri}"))?),
    };
    if case.is_queue_mode && !template.has("{binding}") {
        return Err("needs a client in queue mode: {binding} in the command".to_owned());
    }
    Ok((entry, template))
}

/// A case under way.
pub(crate) struct Run<'b> {
    pub(crate) images: &'b Images,
    /// Where they are offered for download.
    pub(crate) depot: &'b Depot,
    pub(crate) values: Values,
    pub(crate) client: Client,
    /// What stands between device and server in a case under OSCORE.
    pub(crate) outer: Option<Outer>,
    /// The server that the steps are about.
    pub(crate) near: View,
    /// The second one, if the case has two.
    pub(crate) far: Option<View>,
    /// Every message of this device so far, with repetitions.
    pub(crate) trace: Vec<Packet>,
    pub(crate) patience: Duration,
    /// The lifetime that the last Register carried; before it, the one that was asked for.
    pub(crate) lifetime: u32,
    /// The lifetime that the next Register must carry, if the client was told one.
    pub(crate) expected_lifetime: Option<u32>,
    /// The enabler version that it must carry, if the client was told one.
    pub(crate) expected_version: Option<String>,
    /// What the first Read of each place showed.
    pub(crate) first_reads: HashMap<Path, Value>,
    /// What the operator has no way to ask.
    pub(crate) cannot: Option<String>,
    /// Why the server asked nothing of the device although it was to.
    pub(crate) unasked: Option<String>,
}

/// The client of a case.
pub(crate) enum Client {
    /// The one under test.
    Process(Subject),
    /// The runner's own.
    Device(Running),
}

/// What is seen of the device at one server.
pub(crate) struct View {
    pub(crate) source: Source,
    /// Every message of this device so far.
    pub(crate) log: Vec<Seen>,
    /// Where it came from.
    addresses: Vec<String>,
    /// Where in the log the next thing that the device does by itself is looked for.
    pub(crate) mark: usize,
    pub(crate) server_instance: Option<u16>,
    /// The last Register and its answer.
    pub(crate) registered: Option<Registered>,
    pub(crate) observations: HashMap<Path, Observed>,
}

/// Where messages are seen, and who asks.
pub(crate) enum Source {
    /// A server of the bench.
    Bench { server: Server, queue: Queue, packets: Receiver<Packet>, events: Receiver<Event> },
    /// The runner's own device, with whoever drives the server.
    Field(Box<Post>),
}

impl View {
    fn new(site: &Site) -> Self {
        let (server, queue) = (site.server.clone(), site.queue.clone());
        let (packets, events) = (server.packets(), server.events());
        Self::of(Source::Bench { server, queue, packets, events })
    }

    pub(crate) fn of(source: Source) -> Self {
        Self {
            source,
            log: Vec::new(),
            addresses: Vec::new(),
            mark: 0,
            server_instance: None,
            registered: None,
            observations: HashMap::new(),
        }
    }
}

/// A registration.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) request: Seen,
    pub(crate) answer: Seen,
    /// What stands in front of the paths of the device, with a slash in front; empty without.
    pub(crate) prefix: String,
    pub(crate) objects: Vec<Path>,
}

/// An observation that the case made.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) id: ObservationId,
    pub(crate) token: Vec<u8>,
    /// When the last notification before the ones to judge came, or the first answer.
    pub(crate) since: u64,
    /// When it was ended.
    pub(crate) ended: Option<u64>,
}

impl Run<'_> {
    /// Takes the steps of a case; the verdict, what the client printed if it failed, and the messages.
    pub(crate) async fn take(mut self, case: &Case, is_detour: bool) -> (Verdict, Vec<String>, Vec<Packet>) {
        let detour: &[Step] = if is_detour { &[Step::FinishesBootstrap] } else { &[] };
        let mut verdict = Verdict::Pass;
        for step in detour.iter().chain(case.steps) {
            self.unasked = None;
            verdict = match (self.step(step).await, self.cannot.take()) {
                (Ok(()), _) => continue,
                (Err(Stop::NotApplicable(reason)), _) | (Err(_), Some(reason)) => {
                    Verdict::NotApplicable { reason }
                }
                (Err(Stop::Failed { expected, seen }), None) => {
                    let seen = self.unasked.take().unwrap_or(seen);
                    let seen = format!("{seen}{}", self.ended());
                    Verdict::Fail { step: step.to_string(), expected, seen }
                }
            };
            break;
        }
        let log = match (&verdict, &self.client) {
            (Verdict::Fail { .. }, Client::Process(subject)) => {
                subject.log().iter().map(|line| self.values.without_keys(line)).collect()
            }
            _ => Vec::new(),
        };
        while self.receive(Instant::now()).await {}
        (verdict, log, core::mem::take(&mut self.trace))
    }

    /// How the client ended, if it did.
    fn ended(&mut self) -> String {
        match &mut self.client {
            Client::Process(subject) => {
                subject.ended().map(|status| format!("; the client has ended: {status}")).unwrap_or_default()
            }
            Client::Device(_) => String::new(),
        }
    }

    async fn step(&mut self, step: &Step) -> Outcomes {
        match step {
            Step::Second(step) => {
                self.turn();
                let outcome = Box::pin(self.step(step)).await;
                self.turn();
                outcome
            }
            Step::Times(times, step) => {
                for _ in 0..*times {
                    Box::pin(self.step(step)).await?;
                }
                Ok(())
            }
            step => self.device_step(step).await,
        }
    }

    /// Turns to the other server.
    fn turn(&mut self) {
        if let Some(far) = &mut self.far {
            core::mem::swap(&mut self.near, far);
        }
    }

    async fn device_step(&mut self, step: &Step) -> Outcomes {
        match *step {
            Step::Registers => self.registers().await,
            Step::Lists { object, version } => self.lists_version(object, version),
            Step::UpdatesLifetime { lifetime } => self.updates_lifetime(lifetime).await,
            Step::Updates => self.updates().await,
            Step::UpdatesBare => self.updates_bare(self.patience).await,
            Step::UpdatesBareOrExpires { lifetime } => self.updates_bare_or_expires(lifetime).await,
            Step::UpdatesObjects { path } => self.updates_objects(path).await,
            Step::StaysRegistered { seconds } => self.stays_registered(seconds).await,
            Step::Deregisters => self.deregisters().await,
            Step::Forget => self.forget().await,
            Step::UpdateIsNotFound => self.update_is_not_found().await,
            Step::IsQueued => self.is_queued().await,
            Step::SleepsAndIsAsked { path } => self.sleeps_and_is_asked(path).await,
            Step::Observe { path } => self.observe(path).await,
            Step::ObserveComposite { paths, has, lacks } => self.observe_composite(paths, has, lacks).await,
            Step::Notifies { path, times, pmin, pmax } => self.notifies(path, times, pmin, pmax).await,
            Step::NotifiesOf { path, has, lacks, seconds } => {
                self.notifies_of(path, has, lacks, seconds).await
            }
            Step::Reset { path, pmax } => self.reset(path, pmax).await,
            Step::Cancel { path } => self.cancel(path).await,
            Step::StaysSilent { path, seconds } => self.stays_silent(path, seconds).await,
            Step::Unmute => self.unmute().await,
            Step::Reports { has } => self.reports(has).await,
            Step::ReportsNothing { seconds } => self.reports_nothing(seconds).await,
            Step::AsksForBootstrap { after } => self.asks_for_bootstrap(after).await,
            Step::TakesWrite { path } => self.takes_write(path).await,
            Step::TakesDelete { path } => self.takes_delete(path).await,
            Step::ShowsInBootstrap { path, has, lacks } => self.shows_in_bootstrap(path, has, lacks).await,
            Step::ShowsAccounts => self.shows_accounts(true).await,
            Step::ShowsNoAccount => self.shows_accounts(false).await,
            Step::FinishesBootstrap => self.finishes_bootstrap(lwm2m_coap::Code::CHANGED).await,
            Step::RefusesFinish => self.finishes_bootstrap(lwm2m_coap::Code::NOT_ACCEPTABLE).await,
            Step::AskedForNoBootstrap => self.asked_for_no_bootstrap().await,
            Step::CameSecured => self.came_secured(),
            Step::CameProtected => self.outer.as_ref().map_or(Ok(()), Outer::judge),
            Step::RefusesServer => self.refuses_server().await,
            _ => self.server_step(step).await,
        }
    }

    async fn server_step(&mut self, step: &Step) -> Outcomes {
        match *step {
            Step::Read { path, format, has, only } => self.read(path, format, has, only).await,
            Step::Becomes { path, is, seconds } => self.becomes(path, is, seconds).await,
            Step::NeverShows { path, is } => self.never_shows(path, is).await,
            Step::ReadComposite { paths, has, lacks } => self.read_composite(paths, has, lacks).await,
            Step::Needs { path } => self.needs(path).await,
            Step::NeedsValue { path, is, reason } => self.needs_value(path, is, reason).await,
            Step::Ensure { object, instance, values } => self.ensure(object, instance, values).await,
            Step::Calm => self.calm().await,
            Step::Write { path, mode, values, format } => self.write(path, mode, values, format).await,
            Step::Offer { path, values } => self.offer(path, values).await,
            Step::WriteComposite { values } => self.write_composite(values).await,
            Step::Restore { path, resources, mode } => self.restore(path, resources, mode).await,
            Step::Execute { path, is_optional } => self.execute(path, is_optional).await,
            Step::Create { object, instance, values } => self.create(object, instance, values).await,
            Step::Delete { path } => self.delete(path).await,
            Step::DeleteAll { object } => self.delete_all(object).await,
            Step::Refuses { asked, codes } => self.refuses(asked, codes).await,
            Step::Discover { path, has, lacks } => self.discover(path, has, lacks).await,
            Step::Attributes { path, query } => self.attributes(path, query).await,
            _ => Ok(()),
        }
    }

    /// Waits for a message after the mark; the mark moves behind it.
    pub(crate) async fn wait(&mut self, limit: Duration, is: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let until = deadline(limit);
        let mut at = self.near.mark;
        loop {
            while let Some(seen) = self.near.log.get(at) {
                at = at.saturating_add(1);
                if is(seen) {
                    self.near.mark = at;
                    return Some(seen.clone());
                }
            }
            if !self.receive(until).await {
                return None;
            }
        }
    }

    /// Waits for a request after the mark and for its answer; the mark moves behind the request.
    pub(crate) async fn exchange(
        &mut self,
        expected: &str,
        is: impl Fn(&Seen) -> bool,
    ) -> Outcomes<(Seen, Seen)> {
        let before = self.near.mark;
        let Some(request) = self.wait(self.patience, is).await else {
            return Err(Stop::failed(expected, self.tell(before)));
        };
        let answer = self.answer(&request).await?;
        Ok((request, answer))
    }

    /// The same of a body that may come in blocks; the payload of the request is all of it, and the answer that to the last.
    pub(crate) async fn exchange_whole(
        &mut self,
        expected: &str,
        is: impl Fn(&Seen) -> bool,
    ) -> Outcomes<(Seen, Seen)> {
        let mut body = Vec::new();
        loop {
            let (mut request, answer) = self.exchange(expected, &is).await?;
            body.append(&mut request.payload);
            if answer.code != lwm2m_coap::Code::CONTINUE {
                request.payload = body;
                return Ok((request, answer));
            }
        }
    }

    /// Waits for the answer to a request behind the mark; the mark stays.
    pub(crate) async fn answer(&mut self, request: &Seen) -> Outcomes<Seen> {
        let mark = self.near.mark;
        let answer = self.wait(self.patience, |seen| seen.answers(request)).await;
        self.near.mark = mark;
        answer.ok_or_else(|| Stop::failed(format!("an answer to {}", request.describe()), "none"))
    }

    /// Takes in what arrives until `until`; `false` when that moment has come.
    pub(crate) async fn receive(&mut self, until: Instant) -> bool {
        loop {
            let packet = match &mut self.near.source {
                Source::Bench { packets, .. } => match tokio::time::timeout_at(until, packets.recv()).await {
                    Ok(Ok(packet)) => Some(packet),
                    // Others of many cases at once; what is lost shows as a step that fails.
                    Ok(Err(RecvError::Lagged(_))) => continue,
                    Ok(Err(RecvError::Closed)) | Err(_) => None,
                },
                Source::Field(field) => field.receive(until).await,
            };
            let Some(packet) = packet else { return false };
            if self.keep(&packet) {
                return true;
            }
        }
    }

    /// Takes in what has arrived already, and lets the device's next message be looked for from here on.
    pub(crate) async fn catch_up(&mut self) {
        while self.receive(Instant::now()).await {}
        self.near.mark = self.near.log.len();
    }

    fn keep(&mut self, packet: &Packet) -> bool {
        let Some(seen) = Seen::read(packet) else { return false };
        // Without security nobody is named before the registration is accepted, and it may come in blocks.
        let is_ours = match packet.endpoint.as_deref() {
            Some(endpoint) => endpoint == self.values.endpoint,
            None => {
                seen.parameter("ep") == Some(&self.values.endpoint)
                    || self.near.addresses.contains(&packet.address)
            }
        };
        if is_ours && !packet.address.is_empty() && !self.near.addresses.contains(&packet.address) {
            self.near.addresses.push(packet.address.clone());
        }
        if is_ours && self.trace.len() < MOST_TRACED {
            self.trace.push(packet.clone());
        }
        let is_new = is_ours && !self.near.log.iter().any(|earlier| seen.repeats(earlier));
        if is_new {
            self.near.log.push(seen);
        }
        is_new
    }

    /// The messages since a mark, in words.
    pub(crate) fn tell(&self, since: usize) -> String {
        let messages: Vec<String> = self.near.log.iter().skip(since).map(Seen::describe).collect();
        match messages.split_at_checked(messages.len().saturating_sub(MOST_TOLD)) {
            Some((_, last)) if !last.is_empty() => format!("only {}", last.join(", ")),
            _ => "no message".to_owned(),
        }
    }

    /// Asks an operation of the device; the mark is behind everything that came before it.
    pub(crate) async fn ask(&mut self, operation: Operation) -> Result<lwm2m_server::Answer, RequestError> {
        self.catch_up().await;
        let patience = self.patience;
        match &self.near.source {
            Source::Bench { server, .. } => server.request(&self.values.endpoint, operation, patience).await,
            Source::Field(_) => self.ask_operator(operation).await,
        }
    }

    /// A path with its `x` replaced.
    pub(crate) async fn resolve(&mut self, path: &str) -> Outcomes<Path> {
        let unreadable = || Stop::failed("a path", path);
        let Some((before, after)) = path.split_once('x') else {
            return path.parse().map_err(|_| unreadable());
        };
        let instance = match before {
            "/1/" => self.server_instance().await?,
            _ => {
                let resource = before.trim_end_matches('/').parse().map_err(|_| unreadable())?;
                let content = self.content(resource, None).await?;
                let found = content.items.iter().find_map(|(path, _)| path.resource_instance_id());
                let missing = || Stop::NotApplicable(format!("{resource} has no instances"));
                found.ok_or_else(missing)?
            }
        };
        format!("{before}{instance}{after}").parse().map_err(|_| unreadable())
    }

    /// The instance of `/1` that stands for this server: the only one, or the one with its Short Server ID.
    async fn server_instance(&mut self) -> Outcomes<u16> {
        if let Some(instance) = self.near.server_instance {
            return Ok(instance);
        }
        let content = self.content(Path::object(1), None).await?;
        let ids: Vec<(u16, &Value)> = content
            .items
            .iter()
            .filter(|(path, _)| path.resource_id() == Some(0))
            .filter_map(|(path, value)| Some((path.instance_id()?, value)))
            .collect();
        let ours = ids.iter().find(|(_, id)| matches!(id, Value::Integer(1) | Value::Unsigned(1)));
        let instance = ours.or(ids.first()).map(|(instance, _)| *instance);
        self.near.server_instance = instance;
        instance.ok_or_else(|| Stop::failed("an instance of /1 with resource 0", "none"))
    }

    pub(crate) async fn content(&mut self, path: Path, format: Option<u16>) -> Outcomes<Content> {
        match self.ask(Operation::Read { path, format }).await {
            Ok(lwm2m_server::Answer::Content(content)) => Ok(content),
            Ok(_) => Err(Stop::failed(format!("2.05 to GET {path}"), "another answer")),
            Err(error) => Err(Stop::failed(format!("2.05 to GET {path}"), error.to_string())),
        }
    }
}

/// Messages kept of a case.
const MOST_TRACED: usize = 2000;

/// Messages told of a step that failed.
const MOST_TOLD: usize = 6;

/// The moment `limit` after one that is given in milliseconds since 1970.
pub(crate) fn after(since: u64, limit: Duration) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let passed = now.saturating_sub(Duration::from_millis(since));
    deadline(limit.saturating_sub(passed))
}

/// How a write is called on the wire.
pub(crate) const fn method(mode: lwm2m_server::WriteMode) -> &'static str {
    match mode {
        lwm2m_server::WriteMode::Replace => "PUT",
        lwm2m_server::WriteMode::Update => "POST",
    }
}

fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now)
}
