//! Verdicts as a section of a Markdown document that is kept, without times.
//!
//! Invariant: a document has each section once, between marks that name it; what stands outside of them stays.

use core::fmt::Write as _;

use super::super::case::{Case, Verdict};
use super::super::run::Outcome;
use super::super::step::Step;
use super::super::trace::{tell, without_reports};
use super::{Counts, word};

/// Messages shown of a case that failed: the last ones, without reports that the case does not ask for.
const SHOWN: usize = 6;

/// The document with the section of this name as these verdicts have it.
#[must_use]
pub fn markdown(document: &str, name: &str, outcomes: &[(&Case, Outcome)]) -> String {
    let (begin, end) = marks(name);
    let section = format!("{begin}\n{}{end}", section(name, outcomes));
    match document.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1))) {
        Some((before, after)) => format!("{before}{section}{after}"),
        None if document.trim().is_empty() => format!("{section}\n"),
        None => format!("{}\n\n{section}\n", document.trim_end()),
    }
}

/// The verdicts of a section, as id and word, with the reason where a case was not applicable; nothing where the document has no
/// such section.
#[must_use]
pub fn verdicts(document: &str, name: &str) -> Vec<(String, String)> {
    let (begin, end) = marks(name);
    let section = document.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let rows = section
        .map(|(section, _)| section.lines().filter(|line| line.starts_with("| 1.")))
        .into_iter()
        .flatten();
    let cells = rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '*']));
        let (id, word, why) = (cells.next()?, cells.nth(1)?, cells.next().unwrap_or_default());
        let is_left_out = word == super::LEFT_OUT;
        Some((id.to_owned(), if is_left_out { format!("{word}: {why}") } else { word.to_owned() }))
    });
    cells.collect()
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- begin: {name} -->"), format!("<!-- end: {name} -->"))
}

fn section(name: &str, outcomes: &[(&Case, Outcome)]) -> String {
    let counts = Counts::of(outcomes.iter().map(|(_, outcome)| outcome));
    let mut text = format!("## {name}\n\n{counts}.\n\n| case | title | verdict | why |\n|---|---|---|---|\n");
    for (case, outcome) in outcomes {
        let why = match &outcome.verdict {
            Verdict::Pass => String::new(),
            Verdict::Fail { expected, .. } => format!("expected {expected}"),
            Verdict::NotApplicable { reason } => reason.clone(),
        };
        let word = match &outcome.verdict {
            Verdict::Fail { .. } => "**FAIL**",
            verdict => word(verdict),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {word} | {} |",
            case.id(outcome.version),
            cell(case.title),
            cell(&why)
        );
    }
    for (case, outcome) in outcomes {
        let Verdict::Fail { step, expected, seen } = &outcome.verdict else { continue };
        let _ = writeln!(text, "\n### {} {}\n", case.id(outcome.version), case.title);
        let _ =
            writeln!(text, "- step: {}\n- expected: {}\n- seen: {}", cell(step), cell(expected), cell(seen));
        let is_about_reports =
            case.steps.iter().any(|step| matches!(step, Step::Reports { .. } | Step::ReportsNothing { .. }));
        let told = tell(&outcome.trace);
        let told = if is_about_reports { told } else { without_reports(told) };
        if !told.is_empty() {
            text.push_str("\n```text\n");
            for told in told.iter().skip(told.len().saturating_sub(SHOWN)) {
                let _ = writeln!(text, "{}", told.line().replace("```", "'''").replace("<!--", "<! --"));
            }
            text.push_str("```\n");
        }
    }
    text.push('\n');
    text
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}
