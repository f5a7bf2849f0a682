//! The cases by the chapters of the LightweightM2M enabler test specification 1.0 and 1.1, with those of 1.2 as entries.
//!
//! Where the specification leaves a value open or another one serves as well, a shorter time is taken; each such place says so.

mod additional;
mod bootstrap;
mod connectivity;
mod core_objects;
mod firmware;
mod management;
mod operations;
mod registration;
mod reporting;
mod security;

use lwm2m_server::WriteMode::{Replace, Update};

use super::case::Is::{Flag, Lifetime, Number, Text, There};
use super::case::{Case, Expected, Values};
use super::step::Step;

/// The chapters, in the order of their numbers.
const CHAPTERS: [&[Case]; 10] = [
    bootstrap::CASES,
    registration::CASES,
    management::CASES,
    operations::CASES,
    reporting::CASES,
    security::CASES,
    core_objects::CASES,
    firmware::CASES,
    connectivity::CASES,
    additional::CASES,
];

/// All cases, those that are not run included.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    CHAPTERS.into_iter().flatten()
}

const C1: &str = "C.1: one server account; Device with 0-3, 11, 16; /1/x/8 can be executed";
const C3: &str = "C.3: as C.1, with /1/x/2, 3, 5 and perhaps 4";
const C4: &str = "C.4: as C.3, with /3/0/6, 7, 8 (two power sources each) and 9";
const C6: &str = "C.6: as C.4, with all optional resources of Device";
const C13: &str = "C.13: one bootstrap account and Device; no server account";
const PORTFOLIO: &str = "C.1, and Portfolio (/16)";

const PLAIN: Option<u16> = Some(0);
const CBOR: Option<u16> = Some(60);
const SENML_JSON: Option<u16> = Some(110);
const SENML_CBOR: Option<u16> = Some(112);
const TLV: Option<u16> = Some(11_542);
const JSON: Option<u16> = Some(11_543);
/// No Accept.
const ANY: Option<u16> = Some(lwm2m_server::Operation::ANY_FORMAT);

const PLACEHOLDER: &str = "the specification has its number and no procedure";
const OF_1_2: &str = "of LwM2M 1.2";
const OVER_TCP: &str = "over TCP, which this runner does not speak";

const DEVICE: Expected =
    &[("/0", Text), ("/1", Text), ("/2", Text), ("/3", Text), ("/11/x", There), ("/16", Text)];
const SERVER: Expected = &[("/0", Number), ("/1", Lifetime), ("/6", Flag), ("/7", Text)];

/// Four host identities, as C.12 has them.
const IDENTITIES: Values = &[
    ("/0/0", super::case::Literal::Text("Host Device ID #1")),
    ("/0/1", super::case::Literal::Text("Host Manufacturer #1")),
    ("/0/2", super::case::Literal::Text("Host Model #1")),
    ("/0/3", super::case::Literal::Text("Host Software #1")),
];

const fn read(path: &'static str, format: Option<u16>, has: Expected) -> Step {
    Step::Read { path, format, has, only: false }
}

const fn read_only(path: &'static str, format: Option<u16>, has: Expected) -> Step {
    Step::Read { path, format, has, only: true }
}

const fn write(path: &'static str, values: Values) -> Step {
    Step::Write { path, mode: Replace, values, format: None }
}

const fn write_in(path: &'static str, format: Option<u16>, values: Values) -> Step {
    Step::Write { path, mode: Replace, values, format }
}

const fn update_in(path: &'static str, format: Option<u16>, values: Values) -> Step {
    Step::Write { path, mode: Update, values, format }
}

const fn restore(path: &'static str, resources: &'static [u16]) -> Step {
    Step::Restore { path, resources, mode: Update }
}

const fn execute(path: &'static str) -> Step {
    Step::Execute { path, is_optional: false }
}

const fn attributes(path: &'static str, query: &'static str) -> Step {
    Step::Attributes { path, query }
}

const fn needs(path: &'static str) -> Step {
    Step::Needs { path }
}

const fn observe(path: &'static str) -> Step {
    Step::Observe { path }
}

const fn notifies(path: &'static str, times: usize, pmin: u64, pmax: u64) -> Step {
    Step::Notifies { path, times, pmin, pmax }
}

/// Portfolio with an instance of four identities.
const HAS_PORTFOLIO: Step = Step::Ensure { object: 16, instance: 0, values: IDENTITIES };

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::case::{Asked, Enabler, Script};
    use super::*;

    #[test]
    fn every_case_has_a_number_of_its_own_and_steps_or_a_reason() {
        let numbers: HashSet<&str> = cases().map(|case| case.number).collect();
        assert_eq!(numbers.len(), cases().count());
        for case in cases() {
            assert_ne!(case.steps.is_empty(), case.left_out.is_none(), "{}", case.number);
            assert!(!case.title.is_empty(), "{}", case.number);
            assert!(case.since < Enabler::V1_2 || case.left_out.is_some(), "{}", case.number);
        }
    }

    #[test]
    fn cases_judge_what_the_specification_says_of_them() {
        for (number, told) in [
            ("1201", "the client registered /10 in version 1.1"),
            ("901", "100 times: read /3/0"),
            ("2000", "read /20/0/4013 until it is one of [0, 2]"),
            ("770", "a notification of /5/0/3 has the values"),
            ("771", "read /5/0/3 until it is 1"),
            ("773", "a notification of /5/0/3 has the values"),
            ("773", "/5/0/3 was never 2"),
            ("774", "/5/0/3 was never 2"),
            ("775", "write /5/0/1: a URI of the good image with a link that is cut"),
            ("775", "read /5/0/3 until it is 1"),
            ("775", "/5/0/3 was never 2"),
            ("776", "a notification of /5/0/3 has the values"),
            ("776", "/5/0/3 was never 2"),
            ("777", "/5/0/3 was never 2"),
        ] {
            let case = cases().find(|case| case.number == number);
            let steps: Vec<String> =
                case.into_iter().flat_map(|case| case.steps).map(Step::to_string).collect();
            assert!(steps.iter().any(|step| step == told), "{number}: {told} in {steps:#?}");
        }
    }

    #[test]
    fn every_path_in_the_table_can_be_read_once_x_is_known() {
        fn paths(step: &Step) -> Vec<&'static str> {
            match *step {
                Step::Read { path, .. }
                | Step::Becomes { path, .. }
                | Step::NeverShows { path, .. }
                | Step::Needs { path }
                | Step::NeedsValue { path, .. }
                | Step::Write { path, .. }
                | Step::Restore { path, .. }
                | Step::Execute { path, .. }
                | Step::Delete { path }
                | Step::Discover { path, .. }
                | Step::Attributes { path, .. }
                | Step::UpdatesObjects { path }
                | Step::SleepsAndIsAsked { path }
                | Step::Observe { path }
                | Step::Notifies { path, .. }
                | Step::NotifiesOf { path, .. }
                | Step::Reset { path, .. }
                | Step::Cancel { path }
                | Step::StaysSilent { path, .. }
                | Step::TakesWrite { path }
                | Step::TakesDelete { path }
                | Step::ShowsInBootstrap { path, .. } => vec![path],
                Step::ReadComposite { paths, .. } | Step::ObserveComposite { paths, .. } => paths.to_vec(),
                Step::WriteComposite { values } => values.iter().map(|(path, _)| *path).collect(),
                Step::Refuses { asked, .. } => match asked {
                    Asked::Read(path)
                    | Asked::Write(path, ..)
                    | Asked::Attributes(path, _)
                    | Asked::Delete(path)
                    | Asked::Execute(path) => vec![path],
                    Asked::Create(_) => Vec::new(),
                },
                Step::Second(step) | Step::Times(_, step) => paths(step),
                _ => Vec::new(),
            }
        }
        let scripts = cases().flat_map(|case| case.script).filter_map(|step| match *step {
            Script::Read(path) | Script::Delete(path) | Script::Write(path, _) => Some(path),
            _ => None,
        });
        for path in cases().flat_map(|case| case.steps).flat_map(paths).chain(scripts) {
            assert!(path.replace('x', "0").parse::<lwm2m_objects::Path>().is_ok(), "{path}");
        }
    }
}
