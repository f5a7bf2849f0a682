//! The tables of attack classes, of failures in the field and of verification steps in SECURITY.md name tests that exist.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many classes the list has.
const ROWS: usize = 43;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each test of the project, with the folder of its crate.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests = BTreeMap::<_, Vec<_>>::new();
    let crates = ["coap", "objects", "oscore", "dtls-psk", "lwm2m-client", "lwm2m-server", "interop-tests"];
    for folder in crates {
        let mut folders = vec![top().join(folder)];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.extend(Some(path).filter(|path| !path.ends_with("target")));
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    for name in tests_in(&fs::read_to_string(path).unwrap()) {
                        tests.entry(name).or_default().push(folder.to_owned());
                    }
                }
            }
        }
    }
    tests
}

/// The functions behind an attribute that makes them a test.
fn tests_in(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test) {
            found.extend(name.split_once('(').map(|(name, _)| name.to_owned()));
            is_test = false;
        }
    }
    found
}

/// The cells of each row of the table with this first column.
fn rows(first: &str) -> Vec<[String; 3]> {
    let text = fs::read_to_string(top().join("SECURITY.md")).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with(first)).skip(2);
    table
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> =
                line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|_| panic!("a row has three cells: {line}"))
        })
        .collect()
}

#[test]
fn every_class_of_attack_names_tests_that_exist_or_why_it_has_none() {
    let tests = tests();
    let mut next = 1;
    for [number, class, cell] in rows("| # |") {
        if let Ok(number) = number.parse::<usize>() {
            assert_eq!(number, next, "the rows are in order: {class}");
            next += 1;
        }
        let named: Vec<_> = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        let has_reason = cell.strip_prefix('–').is_some_and(|reason| reason.trim().len() > 10);
        assert!(!named.is_empty() || has_reason, "{number}, {class}: neither a test nor a reason");
        for name in named {
            let (folder, name) = match name.split_once(": ") {
                Some(("constant-time", name)) => (Some("interop-tests"), name),
                Some((folder, name)) => (Some(folder), name),
                None => (None, name),
            };
            let found =
                tests.get(name).unwrap_or_else(|| panic!("{number}, {class}: there is no test {name}"));
            let is_there = folder.is_none_or(|folder| found.iter().any(|found| found == folder));
            assert!(is_there, "{number}, {class}: {name} is in {found:?}");
        }
    }
    assert_eq!(next, ROWS + 1, "each class has a row");
}

#[test]
fn whatever_fails_in_the_field_names_tests_that_exist() {
    let tests = tests();
    let rows = rows("| field |");
    assert!(rows.len() > 10, "{}", rows.len());
    for [_, what, cell] in rows {
        let named: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{what}");
        for name in named {
            assert!(tests.contains_key(name), "{what}: there is no test {name}");
        }
    }
}

#[test]
fn every_step_of_verification_names_a_test_of_the_engine() {
    let tests = tests();
    let rows = rows("| step |");
    assert!(rows.len() > 200, "{}", rows.len());
    for [step, what, test] in rows {
        let name = test.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        let found = name.and_then(|name| tests.get(name));
        let is_there = found.is_some_and(|found| found.iter().any(|folder| folder == "dtls-psk"));
        assert!(is_there, "{step}, {what}: there is no test {test}");
    }
}
