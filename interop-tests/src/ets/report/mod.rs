//! Cases and verdicts as a table of text, and as documents.

mod html;
mod junit;
mod markdown;

use core::fmt::Write as _;

use super::case::{Case, Enabler, Verdict};
use super::run::Outcome;

pub use html::html;
pub use junit::junit;
pub use markdown::{markdown, verdicts};

/// The cases with their titles, configurations and steps.
#[must_use]
pub fn list(cases: &[&Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let _ = writeln!(text, "{:<5}{} (LwM2M {})", case.number, case.title, case.since);
        if let Some(reason) = case.left_out {
            let _ = writeln!(text, "     not run: {reason}");
            continue;
        }
        let _ = writeln!(text, "     {}", case.configuration);
        for step in case.steps {
            let _ = writeln!(text, "       - {step}");
        }
    }
    text
}

/// How many cases came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that were not applicable.
    pub left_out: usize,
}

impl Counts {
    /// Counts verdicts.
    pub fn of<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            let count = match outcome.verdict {
                Verdict::Pass => &mut counts.passed,
                Verdict::Fail { .. } => &mut counts.failed,
                Verdict::NotApplicable { .. } => &mut counts.left_out,
            };
            *count = count.saturating_add(1);
        }
        counts
    }
}

impl core::fmt::Display for Counts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} passed, {} failed, {} not applicable", self.passed, self.failed, self.left_out)
    }
}

/// The verdict in a word or two.
pub(crate) const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail { .. } => "FAIL",
        Verdict::NotApplicable { .. } => LEFT_OUT,
    }
}

/// The word for a case that was not applicable.
const LEFT_OUT: &str = "not applicable";

/// One line for each case, what went wrong below it, and the counts at the end.
#[must_use]
pub fn table(outcomes: &[(&Case, Outcome)]) -> String {
    let mut text = String::new();
    let width = outcomes.iter().map(|(case, _)| case.title.len()).max().unwrap_or_default();
    for (case, outcome) in outcomes {
        let seconds = outcome.took.as_secs_f64();
        let (id, word) = (case.id(outcome.version), word(&outcome.verdict));
        let _ = writeln!(text, "{id:<14}{:<width$}  {seconds:>5.1} s  {word}", case.title);
        match &outcome.verdict {
            Verdict::Pass => {}
            Verdict::Fail { step, expected, seen } => {
                let _ = writeln!(
                    text,
                    "       step:     {step}\n       expected: {expected}\n       seen:     {seen}"
                );
                for line in &outcome.log {
                    let _ = writeln!(text, "       client:   {line}");
                }
            }
            Verdict::NotApplicable { reason } => {
                let _ = writeln!(text, "       {reason}");
            }
        }
    }
    let _ = writeln!(text, "{}", Counts::of(outcomes.iter().map(|(_, outcome)| outcome)));
    text
}

/// Text for XML and HTML: what is not allowed in XML 1.0 becomes a replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// The enabler versions for which a case is run: those whose specification has it, among these.
pub fn versions<'v>(case: &Case, versions: &'v [Enabler]) -> impl Iterator<Item = Enabler> + use<'v> {
    let since = case.since;
    // What is of 1.2 alone is told of once.
    let last = versions.last().copied();
    let is_later = since == Enabler::V1_2;
    versions.iter().copied().filter(move |version| *version >= since || is_later && Some(*version) == last)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ets::cases;

    #[test]
    fn a_verdict_says_what_was_expected_and_seen() {
        let outcome = |verdict| Outcome {
            version: Enabler::V1_1,
            verdict,
            took: Duration::from_millis(1500),
            log: vec!["it printed this".to_owned()],
            trace: Vec::new(),
        };
        let fail = Verdict::Fail {
            step: "the client registers".to_owned(),
            expected: "lt=20".to_owned(),
            seen: "POST /rd?lt=30".to_owned(),
        };
        let reason = "the client has no /3/0/7".to_owned();
        let outcomes: Vec<(&Case, Outcome)> = cases()
            .zip([Verdict::Pass, fail, Verdict::NotApplicable { reason }])
            .map(|(case, verdict)| (case, outcome(verdict)))
            .collect();
        let text = table(&outcomes);
        for line in [
            "1.1-int-0     Client Initiated Bootstrap                1.5 s  pass",
            "       expected: lt=20",
            "       seen:     POST /rd?lt=30",
            "       client:   it printed this",
            "       the client has no /3/0/7",
            "1 passed, 1 failed, 1 not applicable",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    /// What a peer may put into its messages and its log.
    const HOSTILE: &str = "</script><script>alert(1)</script>\u{1b}[2J\u{0}\"'&]]>| ``` <!-- end: a -->";

    fn hostile() -> Vec<(&'static Case, Outcome)> {
        let fail = |text: &str| Verdict::Fail {
            step: text.to_owned(),
            expected: text.to_owned(),
            seen: format!("{text}\nsecond line"),
        };
        let outcome = |verdict| Outcome {
            version: Enabler::V1_1,
            verdict,
            took: Duration::from_millis(1500),
            log: vec![HOSTILE.to_owned()],
            trace: Vec::new(),
        };
        let reason = HOSTILE.to_owned();
        let verdicts = [Verdict::Pass, fail(HOSTILE), Verdict::NotApplicable { reason }];
        cases().zip(verdicts.map(outcome)).collect()
    }

    #[test]
    fn no_document_takes_what_a_peer_sent_for_its_own() {
        let outcomes = hostile();
        for document in [junit(&outcomes), html(HOSTILE, &outcomes)] {
            assert!(!document.contains("<script") && !document.contains("]]>"), "{document}");
            assert!(!document.chars().any(|c| c.is_control() && c != '\n'), "{document}");
            assert!(document.contains("&lt;script&gt;"));
        }
        let page = html("t", &outcomes);
        // Nothing is fetched, and nothing runs.
        for outside in ["http:", "https:", "src=", "href=\"/", "url(", "@import", "onload", "javascript:"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_section_is_replaced_and_what_stands_around_it_stays() {
        let outcomes = hostile();
        let document = markdown("# Title\n\nIntroduction.\n", "a", &outcomes);
        let twice =
            markdown(&markdown(&document, "b", &outcomes), "a", outcomes.get(..1).unwrap_or_default());
        assert!(
            twice.starts_with("# Title\n\nIntroduction.\n\n<!-- begin: a -->\n## a\n\n1 passed, 0 failed")
        );
        assert_eq!(twice.matches("<!-- begin: a -->").count(), 1);
        assert_eq!(verdicts(&twice, "a"), [("1.1-int-0".to_owned(), "pass".to_owned())]);
        let words: Vec<String> = verdicts(&twice, "b").into_iter().map(|(_, word)| word).collect();
        assert!(
            words
                .iter()
                .zip(["pass", "FAIL", "not applicable: &lt;/script"])
                .all(|(word, begin)| word.starts_with(begin)),
            "{words:?}"
        );
        assert!(verdicts(&twice, "c").is_empty());
    }

    #[test]
    fn the_list_names_every_step() {
        let text = list(&cases().collect::<Vec<_>>());
        assert!(text.contains("102  Registration Update (LwM2M 1.0)\n"));
        assert!(text.contains("       - write /1/x/1: 20\n"));
        assert!(text.contains("     not run: needs a smartcard"));
    }

    #[test]
    fn a_case_is_run_for_the_versions_that_have_it() {
        let both = [Enabler::V1_0, Enabler::V1_1];
        let of = |number: &str| {
            let case = cases().find(|case| case.number == number).map(|case| versions(case, &both).collect());
            case.unwrap_or_else(Vec::new)
        };
        assert_eq!(of("101"), both);
        assert_eq!(of("222"), [Enabler::V1_1]);
        assert_eq!(of("11"), [Enabler::V1_1]);
    }
}
