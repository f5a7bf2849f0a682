//! Lets an endpoint and the credentials talk to each other: questions, facts, commands and work.
//!
//! Synchronous and free of sockets, so that a simulation runs exactly what the driver runs.

use lwm2m_coap::{Instant, Rng};
use zeroize::Zeroizing;

use crate::credentials::{Command, Context, Credentials, Fact, Refusal};
use crate::endpoint::{Done, Endpoint, Question, Transmit, Verdict, Who, Work, WorkId};

/// Answers what the endpoint asks and reports what it learned, until it has nothing more to say. Every datagram that
/// follows from an answer is written to `out` and handed to `send`; its work is handed to `work`, which may do it at once and
/// answer what came of it. Dates follow the endpoint's wall clock.
pub fn settle(
    endpoint: &mut Endpoint,
    credentials: &Credentials,
    now: Instant,
    rng: &mut Rng<'_>,
    out: &mut [u8],
    send: &mut dyn FnMut(&Transmit, &[u8]),
    work: &mut dyn FnMut(WorkId, Work) -> Option<Done>,
) {
    loop {
        // What happened first: the answer to a question may depend on it.
        if let Some(fact) = endpoint.poll_fact() {
            report(endpoint, credentials, now, &fact);
        } else if let Some((id, question)) = endpoint.poll_question() {
            let verdict = judge(credentials, endpoint.wall_clock(now), &question);
            if let Some(transmit) = endpoint.provide(now, id, verdict, rng, out) {
                send(&transmit, out);
            }
        } else if let Some((id, piece)) = endpoint.poll_work() {
            let done = work(id, piece);
            if let Some(transmit) = done.and_then(|done| endpoint.provide_work(now, id, done, rng, out)) {
                send(&transmit, out);
            }
        } else {
            return;
        }
    }
}

/// Tells the credentials that time passed; once a second is enough.
pub fn tick(endpoint: &mut Endpoint, credentials: &Credentials, now: Instant) {
    report(endpoint, credentials, now, &Fact::Tick);
}

/// Why a session is closed whose credential was revoked, retired or suspended.
pub(crate) const RETIRED: &str = "the credential is no longer good";

fn judge(credentials: &Credentials, now_ms: u64, question: &Question) -> Verdict {
    let verdict = match question {
        Question::LookUp { role, identity, .. } => credentials
            .look_up(*role, identity)
            .map(|secret| Verdict::Key { key: Zeroizing::new(secret.key.bytes().to_vec()), who: secret.who }),
        Question::LookUpContext { role, named, .. } => {
            credentials.look_up_context(*role, named).map(Verdict::Contexts)
        }
        Question::Admit { who } => judge_admission(credentials, now_ms, who).map(|context| match context {
            Some(context) => Verdict::Protected(Box::new(context)),
            None => Verdict::Admitted,
        }),
        Question::Register { who } => match who {
            Who::Proven(who) => credentials.may_register(now_ms, who),
            Who::Unsecured { role, endpoint } => credentials.admit_without_security(*role, endpoint),
        }
        .map(|()| Verdict::Admitted),
        Question::Plan { who } => match who {
            Who::Proven(who) => {
                credentials.admit(now_ms, who).and_then(|()| credentials.bootstrap_plan(now_ms, who))
            }
            Who::Unsecured { role, endpoint } => credentials
                .admit_without_security(*role, endpoint)
                .and_then(|()| credentials.bootstrap_plan_without_security(endpoint)),
        }
        .map(|plan| Verdict::Plan(Box::new(plan))),
    };
    verdict.unwrap_or_else(|refusal: Refusal| match refusal {
        Refusal::Withheld => Verdict::Withheld { reason: refusal.to_string() },
        _ => Verdict::Refused { reason: refusal.to_string() },
    })
}

/// Whether somebody may come in, or stay, and with which OSCORE context inside DTLS.
pub(super) fn judge_admission(
    credentials: &Credentials,
    now_ms: u64,
    who: &Who,
) -> Result<Option<Context>, Refusal> {
    match who {
        Who::Proven(who) => {
            credentials.admit(now_ms, who)?;
            credentials.context_within(who)
        }
        Who::Unsecured { role, endpoint } => {
            credentials.admit_without_security(*role, endpoint).map(|()| None)
        }
    }
}

fn report(endpoint: &mut Endpoint, credentials: &Credentials, now: Instant, fact: &Fact) {
    let commands = match credentials.report(endpoint.wall_clock(now), fact) {
        Ok(commands) => commands,
        Err(error) => {
            // Nothing changed; what the fact would have led to is led to by the next one of its kind, or by a deadline.
            tracing::error!(%error, "what happened could not be stored");
            return;
        }
    };
    for command in commands {
        execute(endpoint, now, command);
    }
}

/// Carries out what the credentials ask for, also after an operator's change.
pub fn execute(endpoint: &mut Endpoint, now: Instant, command: Command) {
    match command {
        Command::TriggerBootstrap { endpoint: name } => endpoint.trigger_bootstrap(now, &name),
        Command::ForgetRegistration { endpoint: name } => {
            endpoint.forget(now, &name);
        }
        Command::CloseSessions { endpoint: name, role, generation } => {
            endpoint.close_sessions(now, &name, role, generation, RETIRED);
            endpoint.close_sessions_elsewhere(&name, role, generation, RETIRED);
        }
    }
}
