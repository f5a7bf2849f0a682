//! Runs `lwm2m-interop`, and compares what it finds with `interop-tests/CONFORMANCE.md`; `LWM2M_CONFORMANCE=write` writes it there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use interop_tests::ets::verdicts;
use lwm2m_client::simulated::{Flaw, package};

/// Verdicts by ids, the output, and the exit code.
pub(crate) type Found = (BTreeMap<String, String>, String, Option<i32>);

/// Runs `lwm2m-interop` and returns the verdict of each case, its output, and its exit code.
pub(crate) fn run(arguments: &[&str]) -> Found {
    let output = Command::new(env!("CARGO_BIN_EXE_lwm2m-interop"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the runner starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut verdicts = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("1.")) {
        let id = line.split_whitespace().next().unwrap_or_default();
        let verdict = line.rsplit("  ").next().unwrap_or_default().trim();
        verdicts.insert(id.to_owned(), verdict.to_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    (verdicts, format!("{text}{errors}"), output.status.code())
}

/// Packages for the firmware object of our client, which say what becomes of them, as arguments.
pub(crate) fn firmware(folder: &Path) -> Vec<String> {
    let images = [
        ("good", None),
        ("too-large", Some(Flaw::TooLarge)),
        ("too-much-memory", Some(Flaw::NeedsMemory)),
        ("corrupt", Some(Flaw::Changed)),
        ("wrong-type", Some(Flaw::Foreign)),
        ("failing", Some(Flaw::Fails)),
    ];
    let write = |(kind, flaw): (&str, Option<Flaw>)| {
        let file = folder.join(kind);
        std::fs::write(&file, package("9.9.9", flaw)).expect("a temporary file can be written");
        ["--firmware".to_owned(), format!("{kind}={}", file.display())]
    };
    images.into_iter().flat_map(write).collect()
}

fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFORMANCE.md")
}

/// Runs all cases, and compares the verdicts with those that are kept, or keeps them.
pub(crate) fn run_whole(title: &str, arguments: &[&str]) -> Found {
    let file = conformance();
    let is_kept = std::env::var_os("LWM2M_CONFORMANCE").is_some_and(|value| value == "write");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fresh = folder.path().join("conformance.md").display().to_string();
    let fresh = if is_kept { file.display().to_string() } else { fresh };
    let found = run(&[arguments, &["--title", title, "--markdown", &fresh]].concat());
    println!("{}", found.1);
    let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
    let (kept, fresh) = (verdicts(&read(&file), title), verdicts(&read(Path::new(&fresh)), title));
    assert_eq!(fresh.len(), found.0.len(), "the document has every case");
    let differing: Vec<_> = fresh.iter().filter(|verdict| !kept.contains(verdict)).collect();
    assert!(
        differing.is_empty() && kept.len() == fresh.len(),
        "{} says otherwise (LWM2M_CONFORMANCE=write writes it): {differing:?}",
        file.display()
    );
    found
}

pub(crate) fn count(found: &Found, verdict: &str) -> usize {
    found.0.values().filter(|other| *other == verdict).count()
}

/// The ids of the cases that failed.
pub(crate) fn failed(found: &Found) -> Vec<&str> {
    found.0.iter().filter(|(_, verdict)| *verdict == "FAIL").map(|(id, _)| id.as_str()).collect()
}
