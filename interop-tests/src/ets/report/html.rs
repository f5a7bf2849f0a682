//! Verdicts as one page of HTML, with what was on the wire.
//!
//! Invariants: the page needs nothing but itself, and no script; whatever a peer sent is text in it.

use core::fmt::Write as _;

use super::super::case::{Case, Verdict};
use super::super::run::Outcome;
use super::super::trace::{Told, tell};
use super::{Counts, escape, word};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:1.5rem 0 .3rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid #d9dee6}
code,pre,.wire td{font:13px/1.4 ui-monospace,monospace}.wire td{overflow-wrap:anywhere}
.pass{color:#14692f}.fail{color:#a3122a;font-weight:600}.skip{color:#5a6472}
.up{background:#eef6ff}.down{background:#fff}.dim{color:#5a6472}
summary{cursor:pointer}a{color:#0b4f9e}
@media(prefers-color-scheme:dark){body{color:#dfe5ee;background:#14181f}.up{background:#1b2635}.down{background:#14181f}
th,td{border-color:#333c49}.pass{color:#6fd18c}.fail{color:#ff8095}.skip,.dim{color:#98a2b1}a{color:#7db8ff}}";

/// The page: counts, the table of cases, and each case with its steps and its decoded messages.
#[must_use]
pub fn html(title: &str, outcomes: &[(&Case, Outcome)]) -> String {
    let counts = Counts::of(outcomes.iter().map(|(_, outcome)| outcome));
    let title = escape(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}\n</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n<p>{counts}</p>\n"
    );
    page.push_str("<table>\n<tr><th>Case</th><th>Title</th><th>Seconds</th><th>Verdict</th></tr>\n");
    for (case, outcome) in outcomes {
        let id = escape(&case.id(outcome.version));
        let _ = writeln!(
            page,
            "<tr><td><a href=\"#{id}\">{id}</a></td><td>{}</td><td>{:.1}</td><td class=\"{}\">{}</td></tr>",
            escape(case.title),
            outcome.took.as_secs_f64(),
            class(&outcome.verdict),
            word(&outcome.verdict)
        );
    }
    page.push_str("</table>\n");
    for (case, outcome) in outcomes {
        detail(&mut page, case, outcome);
    }
    page.push_str("</body>\n</html>\n");
    page
}

const fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail { .. } => "fail",
        Verdict::NotApplicable { .. } => "skip",
    }
}

fn detail(page: &mut String, case: &Case, outcome: &Outcome) {
    let id = escape(&case.id(outcome.version));
    let _ = writeln!(
        page,
        "<h2 id=\"{id}\">{id} {} <span class=\"{}\">{}</span></h2>",
        escape(case.title),
        class(&outcome.verdict),
        word(&outcome.verdict)
    );
    match &outcome.verdict {
        Verdict::Pass => {}
        Verdict::NotApplicable { reason } => {
            let _ = writeln!(page, "<p class=\"skip\">{}</p>", escape(reason));
        }
        Verdict::Fail { step, expected, seen } => {
            let _ = writeln!(
                page,
                "<table><tr><th>Step</th><td>{}</td></tr><tr><th>Expected</th><td>{}</td></tr>\
                 <tr><th>Seen</th><td>{}</td></tr></table>",
                escape(step),
                escape(expected),
                escape(seen)
            );
        }
    }
    if !case.steps.is_empty() {
        let _ = writeln!(
            page,
            "<details><summary>Steps</summary><p class=\"dim\">{}</p><ol>",
            escape(case.configuration)
        );
        for step in case.steps {
            let _ = writeln!(page, "<li>{}</li>", escape(&step.to_string()));
        }
        page.push_str("</ol></details>\n");
    }
    if !outcome.trace.is_empty() {
        let is_open = if matches!(outcome.verdict, Verdict::Fail { .. }) { " open" } else { "" };
        let _ = writeln!(page, "<details{is_open}><summary>{} messages</summary>", outcome.trace.len());
        page.push_str(
            "<table class=\"wire\">\n<tr><th>ms</th><th></th><th>Message</th><th>Payload</th></tr>\n",
        );
        tell(&outcome.trace).iter().for_each(|told| message(page, told));
        page.push_str("</table></details>\n");
    }
    if !outcome.log.is_empty() {
        let log = escape(&outcome.log.join("\n"));
        let _ =
            writeln!(page, "<details><summary>What the client printed</summary><pre>{log}</pre></details>");
    }
}

fn message(page: &mut String, told: &Told) {
    let (class, arrow) = if told.is_from_device { ("up", "client →") } else { ("down", "← server") };
    let options: String = told
        .options
        .iter()
        .map(|option| format!("<br><span class=\"dim\">{}</span>", escape(option)))
        .collect();
    let body = told.body.iter().map(|line| escape(line)).collect::<Vec<_>>().join("<br>");
    let _ = writeln!(
        page,
        "<tr class=\"{class}\"><td>{}</td><td>{arrow}</td><td>{}<br><span class=\"dim\">{}</span>{options}</td><td>{body}</td></tr>",
        told.after,
        escape(&told.head),
        escape(&told.ids)
    );
}
