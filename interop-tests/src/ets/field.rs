//! The role of the client: the runner's own device in front of any server, which an operator drives.
//!
//! Invariant: a request is judged as it comes at the device, and its answer by what the operator says of it.

use std::collections::HashMap;
use std::time::Duration;

use lwm2m_coap::{Code, link};
use lwm2m_objects::Path;
use lwm2m_server::credentials::Role;
use lwm2m_server::endpoint::Watcher;
use lwm2m_server::queue::{Queued, State};
use lwm2m_server::{
    Answer, Content, Direction, Discovered, Link, ObservationId, Operation, Packet, RequestError, WriteMode,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bench::Images;
use super::case::{Case, Enabler, Entry, Security, Verdict};
use super::certificates::Authority;
use super::depot::Depot;
use super::message::Seen;
use super::operated::{Proof, Running, Start, Wire};
use super::operator::{Credential, Failure, Operator, Shown, told};
use super::run::{Client, Outcome, Outcomes, Run, Source, Stop, View};
use super::step::Step;
use super::subject::Values;

/// The server under test, and who drives it.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its URI.
    pub server: String,
    /// The URI of its bootstrap server, if it has one.
    pub bootstrap_server: Option<String>,
    /// Its certificate in DER, if there is one: the cases about certificates need it.
    pub certificate: Option<Vec<u8>>,
    /// Who makes it ask.
    pub operator: Operator,
    /// The firmware images for its device.
    pub images: Images,
    /// How long a step may take beyond the time the case itself asks for.
    pub patience: Duration,
}

/// A device in front of it.
pub(crate) struct Post {
    operator: Operator,
    wires: UnboundedReceiver<Wire>,
    watcher: Watcher,
    /// What was observed, by the number of the observation.
    observed: Vec<Vec<Path>>,
}

/// How often a queued request is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is known of a registration.
pub(crate) enum Known {
    /// It stands; what is not said is `None`.
    Registered {
        location: Option<String>,
        version: Option<String>,
        lifetime: Option<u32>,
        is_queued: Option<bool>,
    },
    /// There is none.
    Unknown,
    /// Nobody can tell.
    Unsaid,
}

impl Known {
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Registered { lifetime: Some(lifetime), .. } => format!("{lifetime} s"),
            Self::Registered { .. } => "a registration".to_owned(),
            Self::Unknown => "no registration".to_owned(),
            Self::Unsaid => "nothing".to_owned(),
        }
    }
}

/// Runs a case in the role of the client.
pub async fn run_client(field: &Field, case: &Case, version: Enabler) -> Outcome {
    let began = Instant::now();
    let outcome =
        |verdict, trace| Outcome { version, verdict, took: began.elapsed(), log: Vec::new(), trace };
    if let Some(reason) = left_out(field, case, version) {
        return outcome(Verdict::NotApplicable { reason }, Vec::new());
    }
    let (values, start) = match credentials(field, case, version) {
        Ok(made) => made,
        Err(reason) => return outcome(Verdict::NotApplicable { reason }, Vec::new()),
    };
    let role = if start.is_bootstrap { "bootstrap" } else { "management" };
    let (operator, endpoint, lifetime) = (field.operator.clone(), values.endpoint.clone(), case.lifetime);
    let credential = match &start.proof {
        Proof::None => Credential::Anyone,
        Proof::Psk { identity, .. } => {
            Credential::Psk { identity: identity.clone(), key: values.key.clone() }
        }
        Proof::Certificate { own, .. } => Credential::Certificate(own.certificate_pem.clone()),
    };
    let is_secure = !matches!(credential, Credential::Anyone);
    let uri = (start.is_bootstrap || is_secure).then(|| field.server.clone());
    let enrolled = tokio::task::spawn_blocking(move || {
        operator.enrol(&endpoint, role, &credential, lifetime, uri.as_deref())
    });
    let enrolled = enrolled.await.unwrap_or_else(|error| Err(Failure::Refused(error.to_string())));
    let failed = |step: &str, seen: String| {
        let expected = "a device that may come".to_owned();
        Verdict::Fail { step: step.to_owned(), expected, seen }
    };
    match enrolled {
        Ok(()) => {}
        Err(Failure::Cannot(reason)) => return outcome(Verdict::NotApplicable { reason }, Vec::new()),
        Err(Failure::Refused(seen) | Failure::Overtaken(seen)) => {
            return outcome(failed("the server knows the device", seen), Vec::new());
        }
    }
    let depot = match Depot::start(field.images.clone()) {
        Ok(depot) => depot,
        Err(error) => return outcome(failed("images are offered", error.to_string()), Vec::new()),
    };
    let (running, wires) = match Running::start(start) {
        Ok(started) => started,
        Err(error) => return outcome(failed("the device starts", error), Vec::new()),
    };
    let watcher = Watcher::new(&values.endpoint, is_secure);
    let post = Post { operator: field.operator.clone(), wires, watcher, observed: Vec::new() };
    let run = Run {
        images: &field.images,
        depot: &depot,
        values,
        client: Client::Device(running),
        outer: None,
        near: View::of(Source::Field(Box::new(post))),
        far: None,
        trace: Vec::new(),
        patience: field.patience,
        lifetime: case.lifetime,
        expected_lifetime: (case.entry == Entry::Management).then_some(case.lifetime),
        expected_version: Some(version.to_string()),
        first_reads: HashMap::new(),
        cannot: None,
        unasked: None,
    };
    let (verdict, _, trace) = run.take(case, false).await;
    outcome(verdict, trace)
}

/// Why a case says nothing about this server.
fn left_out(field: &Field, case: &Case, version: Enabler) -> Option<String> {
    let reason = if let Some(reason) = case.left_out {
        reason
    } else if case.is_of_1_0 && version != Enabler::V1_0 {
        "its content format is of LwM2M 1.0 alone"
    } else if matches!(case.entry, Entry::Both | Entry::Fallback) || case.steps.contains_client_alone() {
        "judges the client alone"
    } else if !case.script.is_empty() {
        "an operator has no way to change the steps of a bootstrap"
    } else if case.security == Security::Oscore {
        "the runner's device has no OSCORE"
    } else if case.security.is_by_certificate() && field.certificate.is_none() {
        "needs --server-certificate"
    } else if case.entry == Entry::Bootstrap && field.bootstrap_server.is_none() {
        "needs --bootstrap-server"
    } else if (case.security.is_by_certificate()
        || case.steps.iter().any(|step| matches!(step, Step::CameSecured)))
        && !is_secure(&field.server)
    {
        "the run is without security"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

trait Steps {
    fn contains_client_alone(&self) -> bool;
}

impl Steps for &[Step] {
    /// Whether a step needs a client that does what the runner's device does not.
    fn contains_client_alone(&self) -> bool {
        self.iter().any(|step| matches!(step, Step::RefusesServer | Step::Offer { .. }))
    }
}

fn is_secure(uri: &str) -> bool {
    uri.starts_with("coaps://")
}

/// A device of its own for a case.
fn credentials(field: &Field, case: &Case, version: Enabler) -> Result<(Values, Start), String> {
    let mut random = [0; 20];
    getrandom::fill(&mut random).map_err(|_| "the operating system gives no randomness")?;
    let (name, key) = random.split_at(4);
    let endpoint = format!("ets-{}-{}", case.number, hex::encode(name));
    let is_bootstrap = case.entry == Entry::Bootstrap;
    let bootstrap_uri = field.bootstrap_server.clone().unwrap_or_default();
    let uri = if is_bootstrap { bootstrap_uri.clone() } else { field.server.clone() };
    let identity = format!("{endpoint}-psk");
    let proof = match (case.security, &field.certificate) {
        _ if !is_secure(&uri) => Proof::None,
        (Security::Certificate, Some(server)) => {
            let own = Authority::new().and_then(|authority| authority.device(&endpoint))?;
            Proof::Certificate { own, server: server.clone() }
        }
        _ => Proof::Psk { identity: identity.clone(), key: key.to_vec() },
    };
    let start = Start {
        endpoint: endpoint.clone(),
        is_bootstrap,
        proof,
        uri,
        lifetime: case.lifetime,
        version,
        is_queue_mode: case.is_queue_mode,
    };
    let values = Values {
        uri: field.server.clone(),
        bootstrap_uri,
        endpoint,
        identity,
        key: hex::encode(key),
        lifetime: case.lifetime,
        version,
        binding: if case.is_queue_mode { "UQ" } else { "U" },
        files: Default::default(),
        oscore: Default::default(),
    };
    Ok((values, start))
}

impl Post {
    /// The next message until then.
    pub(crate) async fn receive(&mut self, until: Instant) -> Option<Packet> {
        let Ok(Some(wire)) = tokio::time::timeout_at(until, self.wires.recv()).await else {
            // A device that has ended says nothing any more.
            tokio::time::sleep_until(until).await;
            return None;
        };
        let role = if wire.is_bootstrap { Role::Bootstrap } else { Role::Management };
        let direction = if wire.is_from_device { Direction::FromDevice } else { Direction::ToDevice };
        Some(self.watcher.see(wire.at, role, direction, &wire.bytes))
    }

    pub(crate) fn observed(&self, id: ObservationId) -> Vec<Path> {
        usize::try_from(id.0).ok().and_then(|id| self.observed.get(id)).cloned().unwrap_or_default()
    }

    /// Has the operator do something that no request to the device comes of at once.
    pub(crate) async fn operate(
        &self,
        endpoint: &str,
        what: impl FnOnce(&Operator, &str) -> Result<(), Failure> + Send + 'static,
    ) -> Outcomes {
        let (operator, endpoint) = (self.operator.clone(), endpoint.to_owned());
        let done = tokio::task::spawn_blocking(move || what(&operator, &endpoint)).await;
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Cannot(reason))) => Err(Stop::NotApplicable(reason)),
            Ok(Err(Failure::Refused(seen) | Failure::Overtaken(seen))) => {
                Err(Stop::failed("the server does it", seen))
            }
            Err(error) => Err(Stop::failed("the server does it", error.to_string())),
        }
    }
}

impl Run<'_> {
    /// What the server knows of the registration.
    pub(crate) async fn known(&self) -> Known {
        match &self.near.source {
            Source::Bench { server, .. } => match server.device(&self.values.endpoint).await {
                Some(device) => Known::Registered {
                    location: Some(device.location),
                    version: Some(device.version),
                    lifetime: Some(device.lifetime),
                    is_queued: Some(device.queue),
                },
                None => Known::Unknown,
            },
            Source::Field(post) => match shown(post, &self.values.endpoint).await {
                Some(Some(Shown { lifetime, version, is_queued, .. })) => {
                    Known::Registered { location: None, version, lifetime, is_queued }
                }
                Some(None) => Known::Unknown,
                None => Known::Unsaid,
            },
        }
    }

    pub(crate) async fn is_asleep(&self) -> bool {
        match &self.near.source {
            Source::Bench { server, .. } => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
                let device = server.device(&self.values.endpoint).await;
                device.is_some_and(|device| !device.is_awake(now))
            }
            Source::Field(post) => match shown(post, &self.values.endpoint).await {
                Some(shown) => shown.is_some_and(|shown| shown.is_awake == Some(false)),
                None => false,
            },
        }
    }

    /// Asks without waiting for the answer.
    pub(crate) fn ask_meanwhile(
        &self,
        operation: Operation,
        patience: Duration,
    ) -> JoinHandle<Result<(), String>> {
        let endpoint = self.values.endpoint.clone();
        match &self.near.source {
            Source::Bench { queue, .. } => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let actor = "lwm2m-interop".into();
                    let queued = Queued { operation, priority: 0, expires: patience, actor };
                    let id = queue.add(&endpoint, queued).await.map_err(|error| error.to_string())?;
                    loop {
                        let request =
                            queue.request(&endpoint, id).await.map_err(|error| error.to_string())?;
                        match request.map(|request| request.head.state) {
                            Some(State::Done) => return Ok(()),
                            Some(State::Queued | State::Sent) => tokio::time::sleep(LOOK).await,
                            state => return Err(format!("the queued request is {state:?}")),
                        }
                    }
                })
            }
            Source::Field(post) => {
                let operator = post.operator.clone();
                tokio::task::spawn_blocking(move || match operator.ask(&endpoint, &operation) {
                    Ok(_) => Ok(()),
                    Err(Failure::Cannot(error) | Failure::Refused(error) | Failure::Overtaken(error)) => {
                        Err(error)
                    }
                })
            }
        }
    }

    /// The server drops a device that says nothing any more.
    pub(crate) async fn is_dropped_after(&mut self, lifetime: u32) -> Outcomes {
        // Servers look for those that have expired from time to time.
        const LOOK: u64 = 90;
        let most = Duration::from_secs(u64::from(lifetime).saturating_add(LOOK));
        let began = Instant::now();
        loop {
            match self.known().await {
                Known::Unknown => return Ok(()),
                Known::Unsaid => {
                    return Err(Stop::NotApplicable("nobody can tell whether the server dropped it".into()));
                }
                Known::Registered { .. } if began.elapsed() > most => {
                    let expected = format!("no registration {LOOK} s after the end of its lifetime");
                    return Err(Stop::failed(expected, "it stands"));
                }
                Known::Registered { .. } => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Has the operator ask, and takes the answer from what was seen at the device.
    pub(crate) async fn ask_operator(&mut self, operation: Operation) -> Result<Answer, RequestError> {
        let Source::Field(post) = &mut self.near.source else { return Err(RequestError::UnknownDevice) };
        let (operator, endpoint) = (post.operator.clone(), self.values.endpoint.clone());
        let (asked, cancelled) = (
            operation.clone(),
            match &operation {
                Operation::Cancel { observation } => Some(post.observed(*observation)),
                _ => None,
            },
        );
        let asking = tokio::task::spawn_blocking(move || match cancelled {
            Some(paths) => operator.cancel(&endpoint, &paths).map(|()| serde_json::Value::Null),
            None => operator.ask(&endpoint, &asked),
        });
        let mark = self.near.mark;
        let until = Instant::now().checked_add(self.patience);
        let request = loop {
            if let Some(request) = self.near.log.iter().skip(mark).find(|seen| is_asked(&operation, seen)) {
                break request.clone();
            }
            let is_over = asking.is_finished() || until.is_some_and(|until| until < Instant::now());
            let soon = Instant::now().checked_add(Duration::from_millis(50)).unwrap_or_else(Instant::now);
            if !self.receive(soon).await && is_over {
                return Err(self.not_asked(asking).await);
            }
        };
        let answer = self.answer(&request).await.map_err(|_| RequestError::TimedOut)?;
        let taken = asking.await.unwrap_or_else(|error| Err(Failure::Refused(error.to_string())));
        if !answer.code.is_success() {
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            return Err(RequestError::Refused((answer.code.class(), answer.code.detail()), text));
        }
        let said = match taken {
            Ok(said) => said,
            // The device did what it was asked, as in a disabled server's place, before the server had looked at the answer.
            Err(Failure::Overtaken(_)) if answer.payload.is_empty() => serde_json::Value::Null,
            Err(_) => {
                return Err(RequestError::Malformed("the server does not take what the device answered"));
            }
        };
        Ok(self.answered(&operation, &answer, &said))
    }

    /// Why no request came.
    async fn not_asked(&mut self, asking: JoinHandle<Result<serde_json::Value, Failure>>) -> RequestError {
        if !asking.is_finished() {
            return RequestError::NotSent;
        }
        match asking.await {
            Ok(Err(Failure::Cannot(reason))) => {
                self.cannot = Some(reason);
                RequestError::Invalid("the operator has no way to ask this")
            }
            Ok(Err(Failure::Refused(reason) | Failure::Overtaken(reason))) => {
                self.unasked = Some(format!("the server asks nothing: {reason}"));
                RequestError::Refused((0, 0), reason)
            }
            _ => RequestError::NotSent,
        }
    }

    /// What an answer says.
    fn answered(&mut self, operation: &Operation, answer: &Seen, said: &serde_json::Value) -> Answer {
        let values = answer.values.iter().filter_map(|(at, value)| Some((*at, value.clone()?)));
        let mut items: Vec<(Path, lwm2m_server::Value)> = values.collect();
        if items.is_empty() && answer.has_payload {
            // In blocks: what the server made of them.
            items = told(said);
        }
        let content = Content { format: answer.format.unwrap_or_default(), items };
        match operation {
            Operation::Read { .. } | Operation::ReadComposite { .. } => Answer::Content(content),
            Operation::Observe { path, .. } => Answer::Observing(self.observing(vec![*path]), content),
            Operation::ObserveComposite { paths, .. } => {
                Answer::Observing(self.observing(paths.clone()), content)
            }
            Operation::Create { .. } => Answer::Created(answer.location.parse().ok()),
            Operation::Discover { .. } => {
                let text = String::from_utf8_lossy(&answer.payload);
                let links = link::parse(&text).filter_map(Result::ok).map(|link| Link {
                    target: link.path().to_owned(),
                    attributes: link
                        .attributes()
                        .map(|each| (each.name.to_owned(), each.value.map(str::to_owned)))
                        .collect(),
                });
                Answer::Discovered(Discovered { links: links.collect() })
            }
            _ => Answer::Done,
        }
    }

    fn observing(&mut self, paths: Vec<Path>) -> ObservationId {
        let Source::Field(post) = &mut self.near.source else { return ObservationId(0) };
        post.observed.push(paths);
        let last = post.observed.len().saturating_sub(1);
        ObservationId(u64::try_from(last).unwrap_or_default())
    }
}

async fn shown(post: &Post, endpoint: &str) -> Option<Option<Shown>> {
    let (operator, endpoint) = (post.operator.clone(), endpoint.to_owned());
    tokio::task::spawn_blocking(move || operator.shown(&endpoint)).await.ok().flatten()
}

/// Whether a message is what an operation makes a server ask.
fn is_asked(operation: &Operation, seen: &Seen) -> bool {
    const LINK_FORMAT: Option<u16> = Some(40);
    if seen.direction != Direction::ToDevice {
        return false;
    }
    let at = |path: &Path| seen.path == path.to_string() || *path == Path::ROOT && seen.path.is_empty();
    match operation {
        Operation::Read { path, .. } => {
            seen.code == Code::GET && seen.observe.is_none() && seen.accept != LINK_FORMAT && at(path)
        }
        Operation::Discover { path, .. } => seen.code == Code::GET && seen.accept == LINK_FORMAT && at(path),
        Operation::Observe { path, .. } => seen.code == Code::GET && seen.observe == Some(0) && at(path),
        Operation::Write { path, mode, .. } => {
            let code = if *mode == WriteMode::Replace { Code::PUT } else { Code::POST };
            seen.code == code && seen.has_payload && at(path)
        }
        Operation::WriteAttributes { path, .. } => seen.code == Code::PUT && !seen.has_payload && at(path),
        Operation::Execute { path, .. } => seen.code == Code::POST && at(path),
        Operation::Create { object, .. } => seen.code == Code::POST && at(&Path::object(*object)),
        Operation::Delete { path } => seen.code == Code::DELETE && at(path),
        Operation::ReadComposite { .. } => seen.code == Code::FETCH && seen.observe.is_none(),
        Operation::ObserveComposite { .. } => seen.code == Code::FETCH && seen.observe == Some(0),
        Operation::WriteComposite { .. } => seen.code == Code::IPATCH,
        Operation::Cancel { .. } => seen.observe == Some(1),
        _ => false,
    }
}
