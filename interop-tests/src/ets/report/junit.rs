//! Verdicts as JUnit XML, as continuous integration reads them.
//!
//! Invariant: whatever a peer sent, the result is well-formed XML 1.0.

use core::fmt::Write as _;

use super::super::case::{Case, Verdict};
use super::super::run::Outcome;
use super::super::trace::tell;
use super::{Counts, escape};

/// One test case for each case, the packets of those that failed with it.
#[must_use]
pub fn junit(outcomes: &[(&Case, Outcome)]) -> String {
    let counts = Counts::of(outcomes.iter().map(|(_, outcome)| outcome));
    let seconds: f64 = outcomes.iter().map(|(_, outcome)| outcome.took.as_secs_f64()).sum();
    let head = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{seconds:.3}\"",
        outcomes.len(),
        counts.failed,
        counts.left_out
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"lwm2m-interop\" {head}>");
    let _ = writeln!(xml, "  <testsuite name=\"LightweightM2M enabler test specification\" {head}>");
    for (case, outcome) in outcomes {
        let _ = write!(
            xml,
            "    <testcase classname=\"LightweightM2M-{}\" name=\"{} {}\" time=\"{:.3}\"",
            outcome.version,
            escape(&case.id(outcome.version)),
            escape(case.title),
            outcome.took.as_secs_f64()
        );
        match &outcome.verdict {
            Verdict::Pass => xml.push_str("/>\n"),
            Verdict::NotApplicable { reason } => {
                let _ = writeln!(xml, ">\n      <skipped message=\"{}\"/>\n    </testcase>", escape(reason));
            }
            Verdict::Fail { step, expected, seen } => {
                let message = escape(&format!("{step}: expected {expected}, seen {seen}"));
                let _ = writeln!(xml, ">\n      <failure message=\"{message}\">");
                for told in tell(&outcome.trace) {
                    let _ = writeln!(xml, "{:>8} ms {}", told.after, escape(&told.line()));
                }
                xml.push_str("      </failure>\n");
                if !outcome.log.is_empty() {
                    let _ =
                        writeln!(xml, "      <system-out>{}</system-out>", escape(&outcome.log.join("\n")));
                }
                xml.push_str("    </testcase>\n");
            }
        }
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}
