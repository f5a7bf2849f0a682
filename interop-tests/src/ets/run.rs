//! Runs one case: starts the client, takes the steps, and watches every message on the way.
//!
//! Invariant: what a device does by itself is judged by its messages, not by what the server made of them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwm2m_objects::Path;
use lwm2m_server::{Content, ObservationId, Operation, Packet, RequestError, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::bench::{Bench, BenchError};
use super::case::{Case, Entry, Step, Verdict};
use super::message::Seen;
use super::subject::{Subject, Template, Values};
use super::table::DAY;

/// The command lines to start the client with, and how long it may take for a step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Starts a client that has a server account.
    pub management: Option<Template>,
    /// Starts a client that has a bootstrap account.
    pub bootstrap: Option<Template>,
    /// How long a step may take beyond the time the case itself asks for.
    pub patience: Duration,
}

/// The result of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// The last lines the client printed; only when the case failed.
    pub log: Vec<String>,
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

/// Runs a case to its verdict.
///
/// # Errors
/// When the bench fails; that says nothing about the client.
pub async fn run(bench: &Bench, plan: &Plan, case: &Case) -> Result<Outcome, BenchError> {
    let began = Instant::now();
    let outcome = |verdict, log| Outcome { verdict, took: began.elapsed(), log };
    let (entry, template) = match choose(bench, plan, case) {
        Ok(chosen) => chosen,
        Err(reason) => return Ok(outcome(Verdict::NotApplicable { reason }, Vec::new())),
    };
    let values = bench.enrol(case, entry)?;
    let packets = bench.server.packets();
    let subject = match template.start(&values) {
        Ok(subject) => subject,
        Err(error) => {
            let verdict = Verdict::Fail {
                step: "the client starts".to_owned(),
                expected: "a process".to_owned(),
                seen: error.to_string(),
            };
            return Ok(outcome(verdict, Vec::new()));
        }
    };
    let mut run = Run {
        bench,
        values,
        subject,
        packets,
        patience: plan.patience,
        log: Vec::new(),
        mark: 0,
        server_instance: None,
        lifetime: case.lifetime,
        expected_lifetime: (entry == Entry::Bootstrap || template.has("{lifetime}")).then_some(case.lifetime),
        registered: None,
        first_reads: HashMap::new(),
        observations: HashMap::new(),
    };
    // A client that was bootstrapped first for want of another command has not come to the case yet.
    let is_detour = entry == Entry::Bootstrap && case.entry != Entry::Bootstrap;
    let detour: &[Step] = if is_detour { &[Step::FinishesBootstrap] } else { &[] };
    for step in detour.iter().chain(case.steps) {
        match run.step(step).await {
            Ok(()) => {}
            Err(Stop::NotApplicable(reason)) => {
                return Ok(outcome(Verdict::NotApplicable { reason }, Vec::new()));
            }
            Err(Stop::Failed { expected, seen }) => {
                let ended = run.subject.ended().map(|status| format!("; the client has ended: {status}"));
                let seen = format!("{seen}{}", ended.unwrap_or_default());
                let log = run.subject.log();
                return Ok(outcome(Verdict::Fail { step: step.to_string(), expected, seen }, log));
            }
        }
    }
    Ok(outcome(Verdict::Pass, Vec::new()))
}

/// How the device of a case comes in, and the command for it.
fn choose<'p>(bench: &Bench, plan: &'p Plan, case: &Case) -> Result<(Entry, &'p Template), String> {
    let is_about_security = case.steps.iter().any(|step| matches!(step, Step::CameSecured));
    if is_about_security && !bench.is_secure() {
        return Err("the run is without security".to_owned());
    }
    let (entry, template) = match (case.entry, &plan.management, &plan.bootstrap) {
        (Entry::Bootstrap, _, Some(bootstrap)) => (Entry::Bootstrap, bootstrap),
        (Entry::Bootstrap, _, None) => {
            return Err("needs a --client command with {bootstrap-uri}".to_owned());
        }
        (_, Some(management), _) if case.lifetime != DAY && !management.has("{lifetime}") => {
            return Err(format!("needs a lifetime of {} s: {{lifetime}} in the command", case.lifetime));
        }
        (entry, Some(management), _) => (entry, management),
        (_, None, Some(bootstrap)) => (Entry::Bootstrap, bootstrap),
        (_, None, None) => return Err("no command".to_owned()),
    };
    Ok((entry, template))
}

/// A case under way.
pub(crate) struct Run<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) values: Values,
    pub(crate) subject: Subject,
    packets: Receiver<Packet>,
    pub(crate) patience: Duration,
    /// Every message of this device so far.
    pub(crate) log: Vec<Seen>,
    /// Where in the log the next thing that the device does by itself is looked for.
    pub(crate) mark: usize,
    pub(crate) server_instance: Option<u16>,
    /// The lifetime that the last Register carried; before it, the one that was asked for.
    pub(crate) lifetime: u32,
    /// The lifetime that the next Register must carry, if the client was told one.
    pub(crate) expected_lifetime: Option<u32>,
    /// The last Register and its answer.
    pub(crate) registered: Option<(Seen, Seen)>,
    /// What the first Read of each instance showed.
    pub(crate) first_reads: HashMap<Path, Vec<(Path, Value)>>,
    pub(crate) observations: HashMap<Path, Observed>,
}

/// An observation that the case made.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) id: ObservationId,
    pub(crate) token: Vec<u8>,
    /// When the last notification before the ones to judge came, or the first answer.
    pub(crate) since: u64,
    /// When it was reset.
    pub(crate) reset: Option<u64>,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Outcomes {
        match *step {
            Step::Registers => self.registers().await,
            Step::Read { path, format, has, only } => self.read(path, format, has, only).await,
            Step::Needs { path } => self.needs(path).await,
            Step::Write { path, mode, values } => self.write(path, mode, values).await,
            Step::Restore { path, resources } => self.restore(path, resources).await,
            Step::Execute { path, is_optional } => self.execute(path, is_optional).await,
            Step::Attributes { path, query } => self.attributes(path, query).await,
            Step::UpdatesLifetime { lifetime } => self.updates_lifetime(lifetime).await,
            Step::UpdatesBare => self.updates_bare(self.patience).await,
            Step::UpdatesBareOrExpires { lifetime } => self.updates_bare_or_expires(lifetime).await,
            Step::StaysRegistered { seconds } => self.stays_registered(seconds).await,
            Step::Deregisters => self.deregisters().await,
            Step::Forget => self.forget().await,
            Step::UpdateIsNotFound => self.update_is_not_found().await,
            Step::Observe { path } => self.observe(path).await,
            Step::Notifies { path, times, pmin, pmax } => self.notifies(path, times, pmin, pmax).await,
            Step::Reset { path, pmax } => self.reset(path, pmax).await,
            Step::StaysSilent { path, seconds } => self.stays_silent(path, seconds).await,
            Step::AsksForBootstrap => self.asks_for_bootstrap().await,
            Step::TakesAccount { object } => self.takes_account(object).await,
            Step::ShowsAccounts => self.shows_accounts().await,
            Step::FinishesBootstrap => self.finishes_bootstrap().await,
            Step::CameSecured => self.came_secured(),
        }
    }

    /// Waits for a message after the mark; the mark moves behind it.
    pub(crate) async fn wait(&mut self, limit: Duration, is: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let until = deadline(limit);
        let mut at = self.mark;
        loop {
            while let Some(seen) = self.log.get(at) {
                at = at.saturating_add(1);
                if is(seen) {
                    self.mark = at;
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
        let before = self.mark;
        let Some(request) = self.wait(self.patience, is).await else {
            return Err(Stop::failed(expected, self.tell(before)));
        };
        let answer = self.answer(&request).await?;
        Ok((request, answer))
    }

    /// Waits for the answer to a request behind the mark; the mark stays.
    pub(crate) async fn answer(&mut self, request: &Seen) -> Outcomes<Seen> {
        let mark = self.mark;
        let answer = self.wait(self.patience, |seen| seen.answers(request)).await;
        self.mark = mark;
        answer.ok_or_else(|| Stop::failed(format!("an answer to {}", request.describe()), "none"))
    }

    /// Takes in what arrives until `until`; `false` when that moment has come.
    pub(crate) async fn receive(&mut self, until: Instant) -> bool {
        loop {
            match tokio::time::timeout_at(until, self.packets.recv()).await {
                Ok(Ok(packet)) => {
                    if self.keep(&packet) {
                        return true;
                    }
                }
                // Others of many cases at once; what is lost shows as a step that fails.
                Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => return false,
            }
        }
    }

    /// Takes in what has arrived already, and lets the device's next message be looked for from here on.
    pub(crate) async fn catch_up(&mut self) {
        while self.receive(Instant::now()).await {}
        self.mark = self.log.len();
    }

    fn keep(&mut self, packet: &Packet) -> bool {
        let Some(seen) = Seen::read(packet) else { return false };
        let is_ours = match packet.endpoint.as_deref() {
            Some(endpoint) => endpoint == self.values.endpoint,
            None => seen.parameter("ep") == Some(&self.values.endpoint),
        };
        let is_new = is_ours && !self.log.iter().any(|earlier| seen.repeats(earlier));
        if is_new {
            self.log.push(seen);
        }
        is_new
    }

    /// The messages since a mark, in words.
    pub(crate) fn tell(&self, since: usize) -> String {
        let messages: Vec<String> = self.log.iter().skip(since).map(Seen::describe).collect();
        match messages.split_at_checked(messages.len().saturating_sub(MOST_TOLD)) {
            Some((_, last)) if !last.is_empty() => format!("only {}", last.join(", ")),
            _ => "no message".to_owned(),
        }
    }

    /// Asks an operation of the device; the mark is behind everything that came before it.
    pub(crate) async fn ask(&mut self, operation: Operation) -> Result<lwm2m_server::Answer, RequestError> {
        self.catch_up().await;
        self.bench.server.request(&self.values.endpoint, operation, self.patience).await
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
        if let Some(instance) = self.server_instance {
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
        self.server_instance = instance;
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

/// Messages told of a step that failed.
const MOST_TOLD: usize = 6;

/// The moment `limit` after one that is given in milliseconds since 1970.
pub(crate) fn after(since: u64, limit: Duration) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let passed = now.saturating_sub(Duration::from_millis(since));
    deadline(limit.saturating_sub(passed))
}

fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now)
}
