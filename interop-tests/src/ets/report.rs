//! Cases and verdicts as tables of text.

use core::fmt::Write as _;

use super::case::{Case, Verdict};
use super::run::Outcome;

/// The cases with their titles, configurations and steps.
#[must_use]
pub fn list(cases: &[&Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let _ = writeln!(text, "{:<5}{}\n     {}", case.id, case.title, case.configuration);
        for step in case.steps {
            let _ = writeln!(text, "       - {step}");
        }
    }
    text
}

/// One line for each case, what went wrong below it, and the counts at the end.
#[must_use]
pub fn table(outcomes: &[(&Case, Outcome)]) -> String {
    let mut text = String::new();
    let width = outcomes.iter().map(|(case, _)| case.title.len()).max().unwrap_or_default();
    let (mut passed, mut failed, mut left_out) = (0_usize, 0_usize, 0_usize);
    for (case, outcome) in outcomes {
        let word = match &outcome.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail { .. } => "FAIL",
            Verdict::NotApplicable { .. } => "not applicable",
        };
        let seconds = outcome.took.as_secs_f64();
        let _ = writeln!(text, "{:<5}{:<width$}  {seconds:>5.1} s  {word}", case.id, case.title);
        match &outcome.verdict {
            Verdict::Pass => passed = passed.saturating_add(1),
            Verdict::Fail { step, expected, seen } => {
                failed = failed.saturating_add(1);
                let _ = writeln!(
                    text,
                    "       step:     {step}\n       expected: {expected}\n       seen:     {seen}"
                );
                for line in &outcome.log {
                    let _ = writeln!(text, "       client:   {line}");
                }
            }
            Verdict::NotApplicable { reason } => {
                left_out = left_out.saturating_add(1);
                let _ = writeln!(text, "       {reason}");
            }
        }
    }
    let _ = writeln!(text, "{passed} passed, {failed} failed, {left_out} not applicable");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ets::CASES;

    #[test]
    fn a_verdict_says_what_was_expected_and_seen() {
        let outcome = |verdict| Outcome {
            verdict,
            took: Duration::from_millis(1500),
            log: vec!["it printed this".to_owned()],
        };
        let fail = Verdict::Fail {
            step: "the client registers".to_owned(),
            expected: "lt=20".to_owned(),
            seen: "POST /rd?lt=30".to_owned(),
        };
        let reason = "the client has no /3/0/7".to_owned();
        let cases: Vec<(&Case, Outcome)> = CASES
            .iter()
            .zip([Verdict::Pass, fail, Verdict::NotApplicable { reason }])
            .map(|(case, verdict)| (case, outcome(verdict)))
            .collect();
        let text = table(&cases);
        for line in [
            "0    Client Initiated Bootstrap               1.5 s  pass",
            "       expected: lt=20",
            "       seen:     POST /rd?lt=30",
            "       client:   it printed this",
            "       the client has no /3/0/7",
            "1 passed, 1 failed, 1 not applicable",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_list_names_every_step() {
        let text = list(&CASES.iter().collect::<Vec<_>>());
        assert!(text.contains("102  Registration Update\n"));
        assert!(text.contains("       - write /1/x/1: 20\n"));
    }
}
