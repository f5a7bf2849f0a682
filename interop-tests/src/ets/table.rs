//! The cases: LightweightM2M enabler test specification 1.1 and 1.2, and 1.0 where the numbers are the same.
//!
//! Where the specification leaves a value open or another one serves as well, a shorter time is taken; each such place
//! says so.

use lwm2m_server::WriteMode::{Replace, Update};

use super::case::Is::{Exactly, Flag, Lifetime, Number, Text, There};
use super::case::Literal::{Boolean, Integer};
use super::case::Step::{
    AsksForBootstrap, Attributes, CameSecured, Deregisters, Execute, FinishesBootstrap, Forget, Needs,
    Notifies, Observe, Read, Registers, Reset, Restore, ShowsAccounts, StaysRegistered, StaysSilent,
    TakesAccount, UpdateIsNotFound, UpdatesBare, UpdatesBareOrExpires, UpdatesLifetime, Write,
};
use super::case::{Case, Entry, Expected, Literal, Step};

/// All cases, in the order of their numbers.
pub const CASES: &[Case] = &[
    Case {
        id: "0",
        title: "Client Initiated Bootstrap",
        configuration: C13,
        entry: Entry::Bootstrap,
        lifetime: DAY,
        steps: &[
            AsksForBootstrap,
            TakesAccount { object: 0 },
            TakesAccount { object: 1 },
            ShowsAccounts,
            FinishesBootstrap,
        ],
    },
    Case {
        id: "1",
        title: "Client Initiated Bootstrap Full (PSK)",
        configuration: C13,
        entry: Entry::Bootstrap,
        lifetime: DAY,
        steps: &[
            AsksForBootstrap,
            TakesAccount { object: 0 },
            TakesAccount { object: 1 },
            ShowsAccounts,
            FinishesBootstrap,
            Registers,
            Read { path: "/3/0", format: TLV, has: DEVICE, only: false },
            CameSecured,
        ],
    },
    Case {
        id: "5",
        title: "Server Initiated Bootstrap",
        configuration: C13,
        entry: Entry::Bootstrap,
        lifetime: DAY,
        steps: &[
            FinishesBootstrap,
            Registers,
            Execute { path: "/1/x/9", is_optional: false },
            AsksForBootstrap,
            TakesAccount { object: 0 },
            TakesAccount { object: 1 },
            ShowsAccounts,
            FinishesBootstrap,
        ],
    },
    Case {
        id: "101",
        title: "Initial Registration",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[Registers],
    },
    Case {
        id: "102",
        title: "Registration Update",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            write("/1/x/1", &[("", Integer(20))]),
            UpdatesLifetime { lifetime: Some(20) },
            UpdatesBareOrExpires { lifetime: 20 },
        ],
    },
    Case {
        id: "103",
        title: "Deregistration",
        configuration: C3,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[Registers, Execute { path: "/1/x/4", is_optional: true }, Deregisters],
    },
    Case {
        id: "104",
        title: "Registration Update Trigger",
        configuration: C1,
        entry: Entry::Management,
        lifetime: 20,
        steps: &[
            Registers,
            Execute { path: "/1/x/8", is_optional: false },
            UpdatesBare,
            StaysRegistered { seconds: 21 },
        ],
    },
    Case {
        id: "105",
        title: "Discarded Register Update",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            // The specification says only that it is short.
            write("/1/x/1", &[("", Integer(10))]),
            UpdatesLifetime { lifetime: Some(10) },
            Forget,
            UpdateIsNotFound,
            Registers,
        ],
    },
    Case {
        id: "201",
        title: "Querying basic information in Plain Text format",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read { path: "/3/0/0", format: PLAIN, has: &[("", Text)], only: true },
            Read { path: "/3/0/1", format: PLAIN, has: &[("", Text)], only: true },
            Read { path: "/3/0/2", format: PLAIN, has: &[("", Text)], only: true },
        ],
    },
    Case {
        id: "203",
        title: "Querying basic information in TLV format",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read {
                path: "/3/0",
                format: TLV,
                has: &[
                    ("/0", Text),
                    ("/1", Text),
                    ("/2", Text),
                    ("/3", Text),
                    ("/11/x", Number),
                    ("/16", Exactly(Literal::Text("U"))),
                ],
                only: false,
            },
        ],
    },
    Case {
        id: "222",
        title: "Read on Object",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read {
                path: "/1",
                format: None,
                has: &[("/x/0", Number), ("/x/1", Lifetime), ("/x/6", Flag), ("/x/7", Text)],
                only: false,
            },
            Read {
                path: "/3",
                format: None,
                has: &[("/0/0", Text), ("/0/11/x", Number), ("/0/16", Text)],
                only: false,
            },
        ],
    },
    Case {
        id: "223",
        title: "Read on Object Instance",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read { path: "/1/x", format: None, has: SERVER, only: false },
            Read { path: "/3/0", format: None, has: DEVICE, only: false },
        ],
    },
    Case {
        id: "224",
        title: "Read on Resource",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read { path: "/1/x/0", format: None, has: &[("", Number)], only: true },
            Read { path: "/1/x/1", format: None, has: &[("", Lifetime)], only: true },
            Read { path: "/1/x/6", format: None, has: &[("", Flag)], only: true },
            Read { path: "/1/x/7", format: None, has: &[("", Text)], only: true },
            Read { path: "/3/0/16", format: None, has: &[("", Text)], only: true },
        ],
    },
    Case {
        id: "225",
        title: "Read on Resource Instance",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[Registers, Read { path: "/3/0/11/x", format: None, has: &[("", Number)], only: true }],
    },
    Case {
        id: "226",
        title: "Write (Partial Update) on Object Instance",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Read { path: "/1/x", format: None, has: SERVER, only: false },
            Write { path: "/1/x", mode: Update, values: &[("/1", Integer(61)), ("/6", Boolean(true))] },
            UpdatesLifetime { lifetime: Some(61) },
            Read {
                path: "/1/x",
                format: None,
                has: &[("/0", Number), ("/1", Exactly(Integer(61))), ("/6", Exactly(Boolean(true)))],
                only: false,
            },
            Restore { path: "/1/x", resources: &[1, 6] },
            UpdatesLifetime { lifetime: None },
        ],
    },
    Case {
        id: "301",
        title: "Observation and Notification of parameter values",
        configuration: C4,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Needs { path: "/3/0/6" },
            Needs { path: VOLTAGE },
            Needs { path: CURRENT },
            Read { path: "/3/0/6", format: None, has: &[("/x", Number)], only: false },
            Attributes { path: VOLTAGE, query: "pmin=5&pmax=15" },
            Attributes { path: CURRENT, query: "pmin=10&pmax=20" },
            Observe { path: VOLTAGE },
            Observe { path: CURRENT },
            Notifies { path: VOLTAGE, times: 2, pmin: 5, pmax: 15 },
            Notifies { path: CURRENT, times: 1, pmin: 10, pmax: 20 },
        ],
    },
    Case {
        id: "302",
        title: "Cancel Observations using Reset Operation",
        configuration: C4,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[
            Registers,
            Needs { path: VOLTAGE },
            Needs { path: CURRENT },
            // Shorter windows than those of 301: this case judges the end of the notifications, not their times.
            Attributes { path: VOLTAGE, query: "pmin=1&pmax=3" },
            Attributes { path: CURRENT, query: "pmin=2&pmax=4" },
            Observe { path: VOLTAGE },
            Observe { path: CURRENT },
            Notifies { path: VOLTAGE, times: 1, pmin: 1, pmax: 3 },
            Notifies { path: CURRENT, times: 1, pmin: 2, pmax: 4 },
            Reset { path: VOLTAGE, pmax: 3 },
            StaysSilent { path: VOLTAGE, seconds: 7 },
            // The other one goes on.
            Notifies { path: CURRENT, times: 2, pmin: 2, pmax: 4 },
            Reset { path: CURRENT, pmax: 4 },
            StaysSilent { path: CURRENT, seconds: 9 },
        ],
    },
    Case {
        id: "401",
        title: "UDP Channel Security - Pre-shared Key Mode",
        configuration: C1,
        entry: Entry::Management,
        lifetime: DAY,
        steps: &[Registers, Read { path: "/3/0", format: TLV, has: DEVICE, only: false }, CameSecured],
    },
];

const C1: &str = "C.1: one server account; Device with 0-3, 11, 16; /1/x/8 can be executed";
const C3: &str = "C.3: as C.1, with /1/x/2, 3, 5 and perhaps 4";
const C4: &str = "C.4: as C.3, with /3/0/6, 7, 8 (two power sources each) and 9";
const C13: &str = "C.13: one bootstrap account and Device; no server account";

/// The lifetime of a device that a case says nothing about.
pub(crate) const DAY: u32 = 86_400;
const PLAIN: Option<u16> = Some(0);
const TLV: Option<u16> = Some(11_542);
const VOLTAGE: &str = "/3/0/7";
const CURRENT: &str = "/3/0/8";

const DEVICE: Expected =
    &[("/0", Text), ("/1", Text), ("/2", Text), ("/3", Text), ("/11/x", There), ("/16", Text)];
const SERVER: Expected = &[("/0", Number), ("/1", Lifetime), ("/6", Flag), ("/7", Text)];

const fn write(path: &'static str, values: &'static [(&'static str, Literal)]) -> Step {
    Write { path, mode: Replace, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_case_has_a_number_of_its_own_and_steps() {
        let ids: HashSet<&str> = CASES.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), CASES.len());
        assert!(CASES.iter().all(|case| !case.steps.is_empty() && !case.title.is_empty()));
    }

    #[test]
    fn every_path_in_the_table_can_be_read_once_x_is_known() {
        let paths = CASES.iter().flat_map(|case| case.steps).filter_map(|step| match *step {
            Read { path, .. }
            | Needs { path }
            | Write { path, .. }
            | Execute { path, .. }
            | Attributes { path, .. }
            | Observe { path }
            | Notifies { path, .. }
            | Reset { path, .. }
            | StaysSilent { path, .. } => Some(path),
            _ => None,
        });
        for path in paths {
            assert!(path.replace('x', "0").parse::<lwm2m_objects::Path>().is_ok(), "{path}");
        }
    }
}
