//! Runs the DTLS engine, OSCORE and the server's look-up of keys under valgrind, with every secret marked as undefined: memcheck
//! then reports each branch and each index that depends on one.
//!
//! What the protocol itself makes public is a branch as well: that a tag, a cookie or a Finished is right. Each case says how
//! many of these results it has, and memcheck may find no more, wherever the wrong byte is; a comparison that stops at the
//! first difference would have one for each byte that is right. Two leaks made on purpose must be found, or the check is void.
//!
//! `./run` builds and starts it, with the instructions for AES and with the portable code that a microcontroller has.

mod cases;
mod leaks;
mod object_security;
mod parties;
mod secret;
#[cfg(feature = "server")]
mod server;
mod signatures;
#[cfg(feature = "cbc")]
mod unpadding;

use std::process::ExitCode;

/// How often a case let control flow or an address depend on a secret, and how often it may.
struct Finding {
    case: String,
    seen: usize,
    expected: Expected,
}

enum Expected {
    AtMost(usize),
    /// A leak made on purpose.
    MoreThan(usize),
}

impl Finding {
    fn holds(&self) -> bool {
        match self.expected {
            Expected::AtMost(count) => self.seen <= count,
            Expected::MoreThan(count) => self.seen > count,
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Runs a case in which so many results become public.
    fn case<T>(&mut self, case: &str, results: usize, run: impl FnOnce() -> T) -> T {
        self.watch(case, Expected::AtMost(results), run)
    }

    fn watch<T>(&mut self, case: &str, expected: Expected, run: impl FnOnce() -> T) -> T {
        let before = secret::errors();
        let outcome = run();
        let seen = secret::errors().saturating_sub(before);
        self.0.push(Finding { case: case.to_owned(), seen, expected });
        outcome
    }
}

/// Runs every case.
fn watch() -> Findings {
    let mut findings = Findings::default();
    cases::run(&mut findings);
    signatures::run(&mut findings);
    object_security::run(&mut findings);
    #[cfg(feature = "server")]
    server::run(&mut findings);
    leaks::run(&mut findings);
    findings
}

fn main() -> ExitCode {
    if !secret::is_watched() {
        eprintln!("this program finds nothing by itself: start it by ./run, which needs valgrind");
        return ExitCode::from(2);
    }
    // As the crate decides it, which asks the processor as it looks under valgrind.
    let has_instructions = !cfg!(aes_force_soft) && has_aes();
    println!("AES by {}", if has_instructions { "the processor's instructions" } else { "portable code" });
    let findings = watch();
    let mut failed = false;
    for finding in &findings.0 {
        let expected = match finding.expected {
            Expected::AtMost(count) => format!("≤ {count}"),
            Expected::MoreThan(count) => format!("> {count}"),
        };
        let verdict = if finding.holds() { "" } else { "  FAILED" };
        println!("{:<96} {:>3}, {expected}{verdict}", finding.case, finding.seen);
        failed |= !finding.holds();
    }
    ExitCode::from(u8::from(failed))
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    is_x86_feature_detected!("aes")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_comes_out_as_it_should_when_nobody_watches() {
        assert!(!super::watch().0.is_empty());
    }
}
