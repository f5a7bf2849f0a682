//! The command line `lwm2m-interop`: OMA enabler test cases against a client or a server.
//!
//! Exit codes: 0 when no case failed, 1 when one did, 2 for bad arguments or when the server cannot be started.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};
use interop_tests::ets::{
    self, Bench, BenchError, Case, Counts, Enabler, Field, Image, Images, Operator, Outcome, Plan, Rest,
    Template,
};
use lwm2m_server::credentials::certificates;
use tokio::sync::Semaphore;

/// Runs cases of the OMA LwM2M enabler test specification against a client or a server and prints a table of verdicts.
///
/// With --client this program plays the bootstrap server and the server, on ports of 127.0.0.1 that the system chooses. It starts
/// the client anew for each case and ends it afterwards. With --server it plays the client, a device of its own for each case, and
/// what the server has to ask goes to its operator.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The command that starts the client. {uri} {bootstrap-uri} {endpoint} {identity} {key} (hexadecimal) {lifetime} {lwm2m} (1.0
    /// or 1.1) {binding} (U or UQ) {certificate} {private-key} {trust} (files in PEM) {oscore-secret} {oscore-sender} {oscore-recipient}
    /// (hexadecimal) are replaced. May be given several times: with {uri} for a client that has a server account, with
    /// {bootstrap-uri} for one that has a bootstrap account, with both, each with {certificate} for one that has certificates, and
    /// with {oscore-secret} for one that has an OSCORE context in place of a credential for DTLS.
    #[arg(long = "client", value_name = "COMMAND", required_unless_present_any = ["list", "server"], value_parser = Template::parse)]
    clients: Vec<Template>,
    /// The server to run against, coap://host:port or coaps://host:port.
    #[arg(long, value_name = "URI", conflicts_with = "clients", requires = "operator")]
    server: Option<String>,
    /// The bootstrap server that belongs to it.
    #[arg(long, value_name = "URI", requires = "server")]
    bootstrap_server: Option<String>,
    /// The certificate of the server and of its bootstrap server (PEM or DER), with which the cases about certificates are run.
    #[arg(long, value_name = "FILE", requires = "server")]
    server_certificate: Option<PathBuf>,
    /// Who makes the server ask: the REST interface of lwm2m-server, that of Leshan's demonstration server, or a person at this
    /// terminal.
    #[arg(long, value_enum, requires = "server")]
    operator: Option<Who>,
    /// Where the REST interface is, as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", required_if_eq_any([("operator", "ours"), ("operator", "leshan")]))]
    api: Option<String>,
    /// The token for it; without, the environment's LWM2M_TOKEN.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Only the case of this number; may be given several times. Default: all.
    #[arg(long = "case", value_name = "NUMBER", value_parser = find)]
    cases: Vec<&'static Case>,
    /// Prints the cases with their configurations and steps, and ends.
    #[arg(long)]
    list: bool,
    /// The enabler version of the specification to run by, and {lwm2m}. Default: both if the commands have {lwm2m}, else 1.1.
    #[arg(long, value_name = "VERSION", value_enum)]
    lwm2m: Option<Version>,
    /// Seconds a step may take beyond the time the case itself asks for.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Cases that run beside each other, each with a client of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Plain coap:// instead of coaps:// with a pre-shared key; {identity} and {key} mean nothing then.
    #[arg(long)]
    nosec: bool,
    /// A firmware image for the cases of /5, by what the client does with it: good, too-large, too-much-memory, corrupt, wrong-type,
    /// failing. The device of --server takes what lwm2m_client::simulated::package makes.
    #[arg(long = "firmware", value_name = "KIND=FILE", value_parser = image)]
    images: Vec<(Image, PathBuf)>,
    /// Writes the verdicts as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes the verdicts with all messages, decoded, as one page of HTML.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the verdicts as a section of a Markdown document, in the place of the section of the same name.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// What the reports are called.
    #[arg(long, value_name = "NAME", default_value = "LwM2M enabler test cases")]
    title: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Ours,
    Leshan,
    Prompt,
}

#[derive(Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "1.0")]
    V1_0,
    #[value(name = "1.1")]
    V1_1,
}

const EXAMPLES: &str = "Example:
  lwm2m-interop \\
    --client 'lwm2m-client --endpoint {endpoint} --server {uri} --lifetime {lifetime} --psk-identity {identity} --psk-key {key}' \\
    --client 'lwm2m-client --endpoint {endpoint} --server {bootstrap-uri} --bootstrap --psk-identity {identity} --psk-key {key}'";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases: Vec<&'static Case> = match arguments.cases.is_empty() {
        true => ets::cases().collect(),
        false => arguments.cases,
    };
    if arguments.list {
        print!("{}", ets::list(&cases));
        return ExitCode::SUCCESS;
    }
    for (index, template) in arguments.clients.iter().enumerate() {
        if arguments.clients.iter().skip(index.saturating_add(1)).any(|other| other.told() == template.told())
        {
            let reason = format!("more than one --client with {}", template.told());
            Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, reason).exit();
        }
    }
    let versions: &[Enabler] = match arguments.lwm2m {
        Some(Version::V1_0) => &[Enabler::V1_0],
        Some(Version::V1_1) => &[Enabler::V1_1],
        None if arguments.server.is_some()
            || arguments.clients.iter().any(|template| template.has("{lwm2m}")) =>
        {
            &[Enabler::V1_0, Enabler::V1_1]
        }
        None => &[Enabler::V1_1],
    };
    let refuse = |reason: String| -> ! {
        Arguments::command().error(clap::error::ErrorKind::ValueValidation, reason).exit()
    };
    let read = |option: String, file: &Path| {
        std::fs::read(file).unwrap_or_else(|error| refuse(format!("{option}{}: {error}", file.display())))
    };
    let images: Images = arguments
        .images
        .iter()
        .map(|(image, file)| (*image, read(format!("--firmware {}=", image.name()), file)))
        .collect();
    let certificate = arguments.server_certificate.as_ref().map(|file| {
        let bytes = read("--server-certificate ".to_owned(), file);
        certificates(&bytes).into_iter().next().unwrap_or_else(|| {
            refuse(format!("--server-certificate {}: no certificate in PEM or DER", file.display()))
        })
    });
    let reports = Reports {
        junit: arguments.junit,
        html: arguments.html,
        markdown: arguments.markdown,
        title: arguments.title,
    };
    let runs = cases.into_iter().flat_map(|case| ets::versions(case, versions).map(move |v| (case, v)));
    let patience = Duration::from_secs(arguments.timeout);
    let subject = match (arguments.server, arguments.operator) {
        (Some(server), Some(who)) => {
            let token = arguments.token.or_else(|| std::env::var("LWM2M_TOKEN").ok());
            let rest = || Rest::new(&arguments.api.unwrap_or_default(), token);
            let operator = match who {
                Who::Ours => Operator::Ours(rest()),
                Who::Leshan => Operator::Leshan(rest()),
                Who::Prompt => Operator::Prompt,
            };
            let bootstrap_server = arguments.bootstrap_server;
            Subject::Server(Field { server, bootstrap_server, certificate, operator, images, patience })
        }
        _ => {
            let plan = Plan { commands: arguments.clients, patience };
            match Bench::start(!arguments.nosec, images).await {
                Ok(bench) => Subject::Client(Box::new(bench), plan),
                Err(error) => {
                    eprintln!("lwm2m-interop: {error}");
                    return ExitCode::from(2);
                }
            }
        }
    };
    // A person does one thing at a time.
    let jobs = if arguments.operator == Some(Who::Prompt) { 1 } else { arguments.jobs };
    match run(runs.collect(), subject, jobs).await {
        Ok(outcomes) => {
            print!("{}", ets::table(&outcomes));
            if let Err(error) = reports.write(&outcomes) {
                eprintln!("lwm2m-interop: {error}");
                return ExitCode::from(2);
            }
            let counts = Counts::of(outcomes.iter().map(|(_, outcome)| outcome));
            ExitCode::from(u8::from(counts.failed > 0))
        }
        Err(error) => {
            eprintln!("lwm2m-interop: {error}");
            ExitCode::from(2)
        }
    }
}

/// What the cases are run against.
enum Subject {
    Client(Box<Bench>, Plan),
    Server(Field),
}

/// Where the verdicts are written besides.
struct Reports {
    junit: Option<PathBuf>,
    html: Option<PathBuf>,
    markdown: Option<PathBuf>,
    title: String,
}

impl Reports {
    fn write(&self, outcomes: &[(&Case, Outcome)]) -> Result<(), String> {
        let write = |file: &Path, text: String| {
            std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
        };
        if let Some(file) = &self.junit {
            write(file, ets::junit(outcomes))?;
        }
        if let Some(file) = &self.html {
            write(file, ets::html(&self.title, outcomes))?;
        }
        if let Some(file) = &self.markdown {
            let document = match std::fs::read_to_string(file) {
                Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
                read => read.map_err(|error| format!("{}: {error}", file.display()))?,
            };
            write(file, ets::markdown(&document, &self.title, outcomes))?;
        }
        Ok(())
    }
}

/// Runs the cases, `jobs` at a time; the outcomes come in the order of the cases.
async fn run(
    runs: Vec<(&'static Case, Enabler)>,
    subject: Subject,
    jobs: u16,
) -> Result<Vec<(&'static Case, Outcome)>, BenchError> {
    let subject = Arc::new(subject);
    let places = Arc::new(Semaphore::new(usize::from(jobs)));
    let mut running = Vec::new();
    // The longest ones first, so that the others fill the time beside them.
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|index| core::cmp::Reverse(runs.get(*index).map(|(case, _)| case.seconds())));
    for index in order {
        let Some(&(case, version)) = runs.get(index) else { continue };
        let (subject, places) = (Arc::clone(&subject), Arc::clone(&places));
        let task = tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            let outcome = match &*subject {
                Subject::Client(bench, plan) => ets::run(bench, plan, case, version).await,
                Subject::Server(field) => Ok(ets::run_client(field, case, version).await),
            };
            eprintln!("ran {} {}", case.id(version), case.title);
            outcome
        });
        running.push((index, case, task));
    }
    running.sort_by_key(|(index, ..)| *index);
    let mut outcomes = Vec::new();
    for (_, case, task) in running {
        match task.await {
            Ok(outcome) => outcomes.push((case, outcome?)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(outcomes)
}

fn find(number: &str) -> Result<&'static Case, String> {
    ets::cases()
        .find(|case| case.number == number)
        .ok_or_else(|| "no such case; --list shows them".to_owned())
}

fn image(text: &str) -> Result<(Image, PathBuf), String> {
    let (kind, file) = text.split_once('=').ok_or("KIND=FILE is needed")?;
    let image = Image::ALL.into_iter().find(|image| image.name() == kind);
    image.map(|image| (image, PathBuf::from(file))).ok_or_else(|| format!("there is no kind '{kind}'"))
}
