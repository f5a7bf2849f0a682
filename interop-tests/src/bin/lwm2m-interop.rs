//! The command line `lwm2m-interop`: OMA enabler test cases against a client.
//!
//! Exit codes: 0 when no case failed, 1 when one did, 2 for bad arguments or when the server cannot be started.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use interop_tests::ets::{self, Bench, BenchError, CASES, Case, Outcome, Plan, Template, Verdict};
use tokio::sync::Semaphore;

/// Runs cases of the OMA LwM2M enabler test specification against a client and prints a table of verdicts.
///
/// This program plays the bootstrap server and the server, on ports of 127.0.0.1 that the system chooses. It starts the
/// client anew for each case and ends it afterwards.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The command that starts the client. {uri} {bootstrap-uri} {endpoint} {identity} {key} (hexadecimal) {lifetime} are
    /// replaced. Given twice, the command with {uri} runs a client that has a server account, the one with
    /// {bootstrap-uri} a client that has only a bootstrap account.
    #[arg(long = "client", value_name = "COMMAND", required_unless_present = "list", value_parser = Template::parse)]
    clients: Vec<Template>,
    /// Only this case; may be given several times. Default: all.
    #[arg(long = "case", value_name = "ID", value_parser = find)]
    cases: Vec<&'static Case>,
    /// Prints the cases with their configurations and steps, and ends.
    #[arg(long)]
    list: bool,
    /// Seconds a step may take beyond the time the case itself asks for.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Cases that run beside each other, each with a client of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Plain coap:// instead of coaps:// with a pre-shared key; {identity} and {key} mean nothing then.
    #[arg(long)]
    nosec: bool,
}

const EXAMPLES: &str = "Example:
  lwm2m-interop \\
    --client 'lwm2m-client --endpoint {endpoint} --server {uri} --lifetime {lifetime} --psk-identity {identity} --psk-key {key}' \\
    --client 'lwm2m-client --endpoint {endpoint} --server {bootstrap-uri} --bootstrap --psk-identity {identity} --psk-key {key}'";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases: Vec<&'static Case> = match arguments.cases.is_empty() {
        true => CASES.iter().collect(),
        false => arguments.cases,
    };
    if arguments.list {
        print!("{}", ets::list(&cases));
        return ExitCode::SUCCESS;
    }
    let mut plan =
        Plan { management: None, bootstrap: None, patience: Duration::from_secs(arguments.timeout) };
    for template in arguments.clients {
        let is_bootstrap = template.has("{bootstrap-uri}");
        let place = if is_bootstrap { &mut plan.bootstrap } else { &mut plan.management };
        if place.replace(template).is_some() {
            let which = if is_bootstrap { "with" } else { "without" };
            let reason = format!("more than one --client {which} {{bootstrap-uri}}");
            Arguments::command().error(ErrorKind::ArgumentConflict, reason).exit();
        }
    }
    match run(cases, plan, !arguments.nosec, arguments.jobs).await {
        Ok(outcomes) => {
            print!("{}", ets::table(&outcomes));
            let is_failed =
                outcomes.iter().any(|(_, outcome)| matches!(outcome.verdict, Verdict::Fail { .. }));
            ExitCode::from(u8::from(is_failed))
        }
        Err(error) => {
            eprintln!("lwm2m-interop: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the cases, `jobs` at a time; the outcomes come in the order of the cases.
async fn run(
    cases: Vec<&'static Case>,
    plan: Plan,
    is_secure: bool,
    jobs: u16,
) -> Result<Vec<(&'static Case, Outcome)>, BenchError> {
    let bench = Arc::new(Bench::start(is_secure).await?);
    let plan = Arc::new(plan);
    let places = Arc::new(Semaphore::new(usize::from(jobs)));
    let mut running = Vec::new();
    // The longest ones first, so that the others fill the time beside them.
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|index| core::cmp::Reverse(cases.get(*index).map(|case| case.seconds())));
    for index in order {
        let Some(&case) = cases.get(index) else { continue };
        let (bench, plan, places) = (Arc::clone(&bench), Arc::clone(&plan), Arc::clone(&places));
        let task = tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            let outcome = ets::run(&bench, &plan, case).await;
            eprintln!("ran {} {}", case.id, case.title);
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

fn find(id: &str) -> Result<&'static Case, String> {
    CASES.iter().find(|case| case.id == id).ok_or_else(|| "no such case; --list shows them".to_owned())
}
